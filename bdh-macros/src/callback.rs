//! `#[callback]`: from the hooks in an impl block to `hooks()`, `name()` and a registration.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ImplItem, Item, ItemImpl, LitStr, Result, parse2};

const PLACE: &str = "#[callback] goes on `impl Callback for …`, where the hooks are written";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let name: Option<LitStr> = if arguments.is_empty() {
        None
    } else {
        let expected = "expected a name, such as #[callback(\"norms\")], or nothing";
        Some(parse2(arguments).map_err(|error| Error::new(error.span(), expected))?)
    };
    let mut block = match parse2(item)? {
        Item::Impl(block) => block,
        other => return Err(Error::new_spanned(other, PLACE)),
    };
    check_trait(&block)?;
    let methods = methods(&block);

    if !methods.iter().any(|method| method == "hooks") {
        block.items.push(parse2(quote! {
            fn hooks(&self) -> ::bdh::Hooks {
                ::bdh::Hooks::among(&[#(#methods),*])
            }
        })?);
    }
    let Some(name) = name else {
        return Ok(quote!(#block));
    };

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
                place: ::core::concat!(
                    ::core::module_path!(), " (", ::core::file!(), ":", ::core::line!(), ")"
                ),
                build: ::bdh::CallbackEntry::build_as::<#callback>,
                options: ::bdh::CallbackEntry::options_of::<#callback>,
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
    let is_callback = block
        .trait_
        .as_ref()
        .and_then(|(_, path, _)| path.segments.last());
    match is_callback {
        Some(last) if last.ident == "Callback" => Ok(()),
        _ => Err(Error::new_spanned(&block.self_ty, PLACE)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the attribute makes of an item, as code without blanks.
    fn expanded(arguments: &str, item: &str) -> String {
        dense(&try_expand(arguments, item).expect("it expands").to_string())
    }

    fn dense(code: &str) -> String {
        code.split_whitespace().collect()
    }

    fn try_expand(arguments: &str, item: &str) -> Result<TokenStream> {
        let tokens = |text: &str| text.parse::<TokenStream>().expect("Rust tokens");
        expand(tokens(arguments), tokens(item))
    }

    fn complaint(arguments: &str, item: &str) -> String {
        try_expand(arguments, item)
            .expect_err("it is refused")
            .to_string()
    }

    const NORMS: &str = "impl Callback for Norms {
        fn cadence(&self) -> Cadence { Cadence::EVERY_STEP }
        fn on_step(&mut self, at: &StepEnd<'_>) -> HookResult { Ok(()) }
        fn after_backward(&mut self, at: &AfterBackward<'_>) -> HookResult { Ok(()) }
    }";

    #[test]
    fn the_hooks_are_those_that_were_written_and_nothing_is_registered_without_a_name() {
        let code = expanded("", NORMS);
        let hooks = r#"::bdh::Hooks::among(&["cadence","on_step","after_backward"])"#;
        assert!(code.contains(hooks), "{code}");
        assert!(
            !code.contains("fnname") && !code.contains("inventory"),
            "{code}"
        );
    }

    #[test]
    fn a_name_is_written_and_registered() {
        let code = expanded("\"norms\"", NORMS);
        let name =
            "fn name(&self) -> ::std::string::String { ::std::string::String::from(\"norms\") }";
        assert!(code.contains(&dense(name)), "{code}");
        let entry = "::bdh::inventory::submit! { ::bdh::CallbackEntry {
            name: \"norms\",
            place: ::core::concat!(::core::module_path!(), \" (\", ::core::file!(), \":\", ::core::line!(), \")\"),
            build: ::bdh::CallbackEntry::build_as::<Norms>,
            options: ::bdh::CallbackEntry::options_of::<Norms>,
        } }";
        assert!(code.contains(&dense(entry)), "{code}");
    }

    #[test]
    fn what_was_written_by_hand_stays() {
        let item = "impl bdh::Callback for Norms {
            fn name(&self) -> String { String::new() }
            fn hooks(&self) -> Hooks { Hooks::ALL }
        }";
        let code = expanded("\"norms\"", item);
        assert_eq!(code.matches("fnname").count(), 1, "{code}");
        assert_eq!(code.matches("fnhooks").count(), 1, "{code}");
    }

    #[test]
    fn a_callback_without_a_name_may_be_generic() {
        let item = "impl<F: FnMut() + Send> Callback for Calls<F> { fn on_step() {} }";
        assert!(expanded("", item).contains("on_step"));
    }

    #[test]
    fn it_goes_on_the_impl_block_of_the_trait_and_says_so() {
        let impls = [
            "impl Norms { fn on_step(&mut self) {} }",
            "impl Sink for Norms {}",
        ];
        for item in impls
            .into_iter()
            .chain(["struct Norms;", "fn on_step() {}"])
        {
            assert_eq!(complaint("", item), PLACE, "{item}");
        }
    }

    #[test]
    fn a_name_that_no_file_should_say_is_refused_with_one_that_it_could() {
        for name in ["\"\"", "\"Norms\"", "\"grad norm\"", "\"grad-norm\""] {
            let text = complaint(name, NORMS);
            assert!(text.ends_with("such as \"grad_norm\""), "{text}");
        }
    }

    #[test]
    fn anything_but_a_name_is_refused() {
        for arguments in ["norms", "name = \"norms\"", "\"norms\", \"more\"", "3"] {
            let expected = "expected a name, such as #[callback(\"norms\")], or nothing";
            assert_eq!(complaint(arguments, NORMS), expected);
        }
    }

    #[test]
    fn a_generic_callback_cannot_be_registered() {
        let item = "impl<F: Send> Callback for Calls<F> { fn on_step() {} }";
        let text = complaint("\"calls\"", item);
        assert!(text.contains("write #[callback] without a name"), "{text}");
    }
}
