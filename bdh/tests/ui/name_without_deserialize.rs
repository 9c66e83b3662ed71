use bdh::{Callback, callback};

struct Watch;

#[callback("watch")]
impl Callback for Watch {
//                ^ the trait bound `Watch: serde::de::Deserialize
    fn config(&self) -> bdh::registry::Config {
        bdh::registry::Config::Null
    }
}
