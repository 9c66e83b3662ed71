use bdh::{Callback, callback};

struct Watch<T>(T);

#[callback("watch")]
impl<T: Send> Callback for Watch<T> {}
//  ^ a generic callback cannot be registered: write #[callback] without a name, or implement it for one type
