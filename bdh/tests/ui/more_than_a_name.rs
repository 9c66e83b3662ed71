use bdh::{Callback, callback};

struct Watch;

#[callback("watch", every = 5)]
//                ^ expected a name, such as #[callback("norms")], or nothing
impl Callback for Watch {}
