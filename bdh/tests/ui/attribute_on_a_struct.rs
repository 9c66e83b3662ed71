use bdh::callback;

#[callback] struct Watch;
//          ^ #[callback] belongs on `impl Callback for …`, the block with the hooks
