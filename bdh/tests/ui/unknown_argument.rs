use bdh::{Callback, callback};

struct Watch;

#[callback("watch", every = 5)]
//                  ^ expected no argument, a name, `on`, or both: #[callback("grad_norm", on)]
impl Callback for Watch {}
