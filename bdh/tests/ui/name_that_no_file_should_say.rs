use bdh::{Callback, callback};

struct Watch;

#[callback("Watch it")]
//         ^ a callback's name has lower-case letters, digits and `_`, such as "grad_norm"
impl Callback for Watch {}
