use bdh::{Callback, callback};

struct Watch;

#[callback(watch)]
//         ^ expected a name, such as #[callback("norms")], or nothing
impl Callback for Watch {}
