use bdh::{Callback, callback};

struct Watch<T>(T);

#[callback("watch")]
impl<T: Send> Callback for Watch<T> {}
//  ^ a registered callback is one type; write #[callback] without a name, or use a type alias
