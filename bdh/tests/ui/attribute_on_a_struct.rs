use bdh::callback;

#[callback] struct Watch;
//          ^ #[callback] goes on `impl Callback for …`, where the hooks are written
