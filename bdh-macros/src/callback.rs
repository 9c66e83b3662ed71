//! Expansion of `#[callback]`: adds `hooks()`, `name()`, `config()`, `cadence()` and a registration to an impl block.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Error, Ident, ImplItem, ImplItemFn, Item, ItemImpl, LitStr, Result, Token, Type, parse2,
};

const PLACE: &str = "#[callback] belongs on `impl Callback for …`, the block with the hooks";
const ARGUMENTS: &str =
    "expected no argument, a name, `on`, or both: #[callback(\"grad_norm\", on)]";

/// Arguments of the attribute: `"name"`, `on`, both or none.
#[derive(Default)]
struct Arguments {
    name: Option<LitStr>,
    /// Whether `cadence()` returns the field `on`.
    has_cadence: bool,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut arguments = Self::default();
        if input.peek(LitStr) {
            arguments.name = Some(input.parse()?);
            if input.is_empty() {
                return Ok(arguments);
            }
            input.parse::<Token![,]>()?;
        }
        let on: Ident = input.parse()?;
        if on != "on" || !input.is_empty() {
            return Err(Error::new(on.span(), ARGUMENTS));
        }
        arguments.has_cadence = true;
        Ok(arguments)
    }
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let Arguments { name, has_cadence } = parse_arguments(arguments)?;
    let mut block = match parse2(item)? {
        Item::Impl(block) => block,
        other => return Err(Error::new_spanned(other, PLACE)),
    };
    check_trait(&block)?;
    let written = methods(&block);
    add_method(&mut block, &written, hooks(&written))?;
    if has_cadence {
        add_method(&mut block, &written, cadence())?;
    }
    match name {
        Some(name) => register(block, &written, &name),
        None => Ok(quote!(#block)),
    }
}

fn parse_arguments(arguments: TokenStream) -> Result<Arguments> {
    if arguments.is_empty() {
        return Ok(Arguments::default());
    }
    parse2(arguments).map_err(|error| Error::new(error.span(), ARGUMENTS))
}

/// Adds the methods of a registered callback, and the registration after the block.
fn register(mut block: ItemImpl, written: &[String], name: &LitStr) -> Result<TokenStream> {
    check_name(name)?;
    check_not_generic(&block)?;
    add_method(&mut block, written, name_of(name))?;
    let config = config(&block.self_ty);
    add_method(&mut block, written, config)?;
    let entry = entry(name, &block.self_ty);
    Ok(quote! { #block #entry })
}

/// Adds a method, unless the block has one of that name.
fn add_method(block: &mut ItemImpl, written: &[String], method: TokenStream) -> Result<()> {
    let method: ImplItemFn = parse2(method)?;
    if !written.contains(&method.sig.ident.to_string()) {
        block.items.push(method.into());
    }
    Ok(())
}

fn hooks(methods: &[String]) -> TokenStream {
    quote! {
        fn hooks(&self) -> ::bdh::hooks::Hooks {
            ::bdh::hooks::Hooks::among(&[#(#methods),*])
        }
    }
}

fn cadence() -> TokenStream {
    quote! {
        fn cadence(&self) -> ::bdh::Cadence {
            ::core::clone::Clone::clone(&self.on)
        }
    }
}

fn name_of(name: &LitStr) -> TokenStream {
    quote! {
        fn name(&self) -> ::std::string::String {
            ::std::string::String::from(#name)
        }
    }
}

fn config(callback: &Type) -> TokenStream {
    // At the user's type, where the compiler then reports that it does not implement `Serialize`.
    let config =
        quote_spanned! { callback.span() => ::bdh::registry::config_of::<#callback>(self) };
    quote! {
        fn config(&self) -> ::bdh::registry::Config {
            #config
        }
    }
}

fn entry(name: &LitStr, callback: &Type) -> TokenStream {
    quote! {
        ::bdh::inventory::submit! {
            ::bdh::registry::CallbackEntry {
                name: #name,
                place: ::core::concat!(
                    ::core::module_path!(), " (", ::core::file!(), ":", ::core::line!(), ")"
                ),
                build: ::bdh::registry::CallbackEntry::build_as::<#callback>,
                options: ::bdh::registry::CallbackEntry::options_of::<#callback>,
            }
        }
    }
}

/// Returns the names of the methods in the block.
fn methods(block: &ItemImpl) -> Vec<String> {
    let mut names = Vec::new();
    for item in &block.items {
        if let ImplItem::Fn(method) = item {
            names.push(method.sig.ident.to_string());
        }
    }
    names
}

fn check_trait(block: &ItemImpl) -> Result<()> {
    // By its last segment, because a macro cannot resolve paths: `Callback` or `bdh::Callback`.
    if let Some((_, path, _)) = &block.trait_
        && path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Callback")
    {
        return Ok(());
    }
    Err(Error::new_spanned(&block.self_ty, PLACE))
}

fn check_name(name: &LitStr) -> Result<()> {
    let text = name.value();
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !text.is_empty() && text.chars().all(valid) {
        return Ok(());
    }
    let error = format!(
        "invalid name {text:?}: use lower-case letters, digits and `_`, such as \"grad_norm\""
    );
    Err(Error::new(name.span(), error))
}

fn check_not_generic(block: &ItemImpl) -> Result<()> {
    if block.generics.params.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(
        &block.generics,
        "a generic callback cannot be registered: write #[callback] without a name, or implement it for one type",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expands an item and returns the code without whitespace.
    fn expanded(arguments: &str, item: &str) -> String {
        let code = try_expand(arguments, item).expect("the item is valid");
        dense(&code.to_string())
    }

    fn dense(code: &str) -> String {
        code.split_whitespace().collect()
    }

    fn try_expand(arguments: &str, item: &str) -> Result<TokenStream> {
        let tokens = |text: &str| text.parse::<TokenStream>().expect("Rust tokens");
        expand(tokens(arguments), tokens(item))
    }

    fn error(arguments: &str, item: &str) -> String {
        try_expand(arguments, item)
            .expect_err("the item is not valid")
            .to_string()
    }

    const NORMS: &str = "impl Callback for Norms {
        fn cadence(&self) -> Cadence { Cadence::EVERY_STEP }
        fn on_step(&mut self, ctx: &StepEnd<'_>) -> HookResult { Ok(()) }
        fn after_backward(&mut self, ctx: &AfterBackward<'_>) -> HookResult { Ok(()) }
    }";

    #[test]
    fn hooks_are_the_methods_in_the_block() {
        let code = expanded("", NORMS);
        let hooks = r#"::bdh::hooks::Hooks::among(&["cadence","on_step","after_backward"])"#;
        assert!(code.contains(hooks), "{code}");
        assert!(
            !code.contains("fnname") && !code.contains("inventory"),
            "{code}"
        );
    }

    #[test]
    fn name_is_written_and_registered() {
        let code = expanded("\"norms\"", NORMS);
        let name =
            "fn name(&self) -> ::std::string::String { ::std::string::String::from(\"norms\") }";
        assert!(code.contains(&dense(name)), "{code}");
        let entry = "::bdh::inventory::submit! { ::bdh::registry::CallbackEntry {
            name: \"norms\",
            place: ::core::concat!(::core::module_path!(), \" (\", ::core::file!(), \":\", ::core::line!(), \")\"),
            build: ::bdh::registry::CallbackEntry::build_as::<Norms>,
            options: ::bdh::registry::CallbackEntry::options_of::<Norms>,
        } }";
        assert!(code.contains(&dense(entry)), "{code}");
    }

    #[test]
    fn argument_on_makes_the_field_on_the_cadence() {
        let cadence =
            dense("fn cadence(&self) -> ::bdh::Cadence { ::core::clone::Clone::clone(&self.on) }");
        let item = "impl Callback for Norms { fn on_step(&mut self) {} }";
        for arguments in ["on", "\"norms\", on"] {
            assert!(expanded(arguments, item).contains(&cadence), "{arguments}");
        }
        assert!(!expanded("\"norms\"", item).contains("fncadence"));
    }

    #[test]
    fn registered_callback_gets_a_config() {
        let item = "impl Callback for Norms {}";
        assert!(expanded("\"norms\"", item).contains("::bdh::registry::config_of::<Norms>(self)"));
        assert!(!expanded("", item).contains("config_of"));
    }

    #[test]
    fn methods_in_the_block_are_kept() {
        let item = "impl bdh::Callback for Norms {
            fn name(&self) -> String { String::new() }
            fn hooks(&self) -> Hooks { Hooks::ALL }
        }";
        let code = expanded("\"norms\"", item);
        assert_eq!(code.matches("fnname").count(), 1, "{code}");
        assert_eq!(code.matches("fnhooks").count(), 1, "{code}");
    }

    #[test]
    fn callback_without_a_name_may_be_generic() {
        let item = "impl<F: FnMut() + Send> Callback for Calls<F> { fn on_step() {} }";
        assert!(expanded("", item).contains("on_step"));
    }

    #[test]
    fn attribute_on_another_item_is_refused() {
        for item in [
            "impl Norms { fn on_step(&mut self) {} }",
            "impl Sink for Norms {}",
            "struct Norms;",
            "fn on_step() {}",
        ] {
            assert_eq!(error("", item), PLACE, "{item}");
        }
    }

    #[test]
    fn invalid_name_is_refused_with_a_valid_one() {
        for name in ["\"\"", "\"Norms\"", "\"grad norm\"", "\"grad-norm\""] {
            let text = error(name, NORMS);
            assert!(text.ends_with("such as \"grad_norm\""), "{text}");
        }
    }

    #[test]
    fn unknown_arguments_are_refused() {
        for arguments in ["norms", "name = \"norms\"", "\"norms\", \"more\"", "3"] {
            assert_eq!(error(arguments, NORMS), ARGUMENTS);
        }
    }

    #[test]
    fn generic_callback_cannot_be_registered() {
        let item = "impl<F: Send> Callback for Calls<F> { fn on_step() {} }";
        let text = error("\"calls\"", item);
        assert!(text.contains("write #[callback] without a name"), "{text}");
    }
}
