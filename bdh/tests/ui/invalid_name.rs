use bdh::{Callback, callback};

struct Watch;

#[callback("Watch it")]
//         ^ invalid name "Watch it": use lower-case letters, digits and `_`, such as "grad_norm"
impl Callback for Watch {}
