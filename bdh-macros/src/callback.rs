//! `#[callback]`: from the hooks in an impl block to `hooks()`, `name()` and a registration.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, ImplItem, ItemImpl, LitStr, Result, parse2};

/// The hooks of `bdh::Callback`; a method of another name is no hook.
const HOOKS: [&str; 11] = [
    "on_fit_start",
    "on_step_start",
    "on_micro_batch",
    "after_backward",
    "before_optimizer_step",
    "after_optimizer_step",
    "on_step",
    "on_eval_batch",
    "on_eval",
    "on_checkpoint",
    "on_fit_end",
];

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name: Option<LitStr> = if arguments.is_empty() {
        None
    } else {
        let expected = "expected a name, such as #[callback(\"norms\")], or nothing";
        Some(parse2(arguments).map_err(|error| Error::new(error.span(), expected))?)
    };
    let mut block: ItemImpl = parse2(item)?;
    check_trait(&block)?;
    let methods = methods(&block);

    let hooks = methods.iter().filter(|method| HOOKS.contains(&method.as_str())).map(|method| {
        let variant = format_ident!("{}", upper_camel(method));
        quote!(.with(::bdh::Hook::#variant))
    });
    if !methods.iter().any(|method| method == "hooks") {
        block.items.push(parse2(quote! {
            fn hooks(&self) -> ::bdh::Hooks {
                ::bdh::Hooks::NONE #(#hooks)*
            }
        })?);
    }
    let Some(name) = name else { return Ok(quote!(#block)) };

    check_name(&name)?;
    check_not_generic(&block)?;
    if !methods.iter().any(|method| method == "name") {
        block.items.push(parse2(quote! {
            fn name(&self) -> ::std::string::String {
                ::std::string::String::from(#name)
            }
        })?);
    }
    let callback = &block.self_ty;
    Ok(quote! {
        #block

        ::bdh::inventory::submit! {
            ::bdh::CallbackEntry {
                name: #name,
                build: ::bdh::CallbackEntry::build_as::<#callback>,
            }
        }
    })
}

fn methods(block: &ItemImpl) -> Vec<String> {
    let name = |item: &ImplItem| match item {
        ImplItem::Fn(method) => Some(method.sig.ident.to_string()),
        _ => None,
    };
    block.items.iter().filter_map(name).collect()
}

fn check_trait(block: &ItemImpl) -> Result<()> {
    let is_callback = block.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    match is_callback {
        Some(last) if last.ident == "Callback" => Ok(()),
        _ => Err(Error::new_spanned(
            &block.self_ty,
            "#[callback] goes on `impl Callback for …`, where the hooks are written",
        )),
    }
}

fn check_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.chars().all(valid) {
        return Ok(());
    }
    let expected =
        "a callback's name has lower-case letters, digits and `_`, such as \"grad_norm\"";
    Err(Error::new(name.span(), expected))
}

fn check_not_generic(block: &ItemImpl) -> Result<()> {
    if block.generics.params.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(
        &block.generics,
        "a registered callback is one type; write #[callback] without a name, or use a type alias",
    ))
}

/// `after_backward` to `AfterBackward`.
fn upper_camel(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        })
        .collect()
}
