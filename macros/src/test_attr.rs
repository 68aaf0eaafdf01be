//! `#[trine::test]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Ident, Meta, Token};

use crate::arguments::{Arguments, Kernel, OneKernel};
use crate::complaints::Complaints;
use crate::function::Function;

/// What stands in the place of the attribute and its function.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::read(item) {
        Ok(function) => function,
        Err(refused) => return refused,
    };
    let mut complaints = Complaints::default();
    check_function(&function, &mut complaints);
    let shape_is_fine = complaints.is_empty();
    let arguments = Arguments::parse(arguments, &mut complaints);

    let tests = match arguments.kernel() {
        // It stays as it was, so that what names it finds it.
        _ if !shape_is_fine => function.into_token_stream(),
        Kernel::Sim => one_test(&function, &arguments, OneKernel::Sim),
        Kernel::Real => one_test(&function, &arguments, OneKernel::Real),
        Kernel::Both => two_tests(&function, &arguments),
    };
    let errors = complaints.into_tokens();
    quote!(#errors #tests)
}

fn check_function(function: &Function, complaints: &mut Complaints) {
    function.check_shape("a test", complaints);
    for attribute in &function.attributes {
        if attribute.path().segments.last().is_some_and(|last| last.ident == "test") {
            complaints.at(attribute, "`#[trine::test]` makes the function a test: remove this");
        }
    }
}

/// A test with the user's function inside it.
fn one_test(function: &Function, arguments: &Arguments, on: OneKernel) -> TokenStream {
    let Function { attributes, visibility, .. } = function;
    let (name, bare) = (function.name(), function.bare());
    let path = quote!(::core::module_path!(), "::", ::core::stringify!(#name));
    let plan = plan(function, arguments, on, path, quote!(#name));
    quote! {
        #[::core::prelude::v1::test]
        #(#attributes)*
        #visibility fn #name() {
            #bare
            #plan
        }
    }
}

/// The user's function where it stands, so that its paths mean what they say, and a module of the
/// same name with the tests. The two do not clash: one is a value, the other is a type.
fn two_tests(function: &Function, arguments: &Arguments) -> TokenStream {
    let Function { visibility, .. } = function;
    let (name, bare) = (function.name(), function.bare());
    let Shares { conditions, lints, body, tests } = Shares::of(&function.attributes);
    let test = |on: OneKernel| {
        let word = match on {
            OneKernel::Real => "real",
            OneKernel::Sim => "sim",
        };
        let test_name = Ident::new(word, function.name_span());
        let path = quote!(::core::module_path!(), "::", #word);
        let plan = plan(function, arguments, on, path, quote!(super::#name));
        quote! {
            #[::core::prelude::v1::test]
            #(#tests)*
            fn #test_name() {
                #plan
            }
        }
    };
    let (real, sim) = (test(OneKernel::Real), test(OneKernel::Sim));
    quote! {
        #[cfg(test)]
        #(#conditions)*
        #(#lints)*
        #(#body)*
        #visibility #bare

        #[cfg(test)]
        #(#conditions)*
        #(#lints)*
        #visibility mod #name {
            #real
            #sim
        }
    }
}

/// The statement that checks `body` as it was asked for.
fn plan(
    function: &Function,
    arguments: &Arguments,
    on: OneKernel,
    path: TokenStream,
    body: TokenStream,
) -> TokenStream {
    let setters = arguments.setters(on);
    let check = if function.is_async() {
        quote_spanned!(function.output_span()=> .check(|| #body()))
    } else {
        quote_spanned!(function.output_span()=> .check_plain(#body))
    };
    quote!(::trine::testing::Plan::new(::core::concat!(#path)) #setters #check;)
}

/// Which attributes of the user's function go where when it becomes two tests.
#[derive(Default)]
struct Shares {
    /// `cfg`: to all that is generated.
    conditions: Vec<Attribute>,
    /// The lints that are allowed or denied: to the function and to the module.
    lints: Vec<Attribute>,
    /// The lints that must find something: to the function.
    body: Vec<Attribute>,
    /// The rest: to both tests.
    tests: Vec<Attribute>,
}

impl Shares {
    fn of(attributes: &[Attribute]) -> Shares {
        let mut shares = Shares::default();
        for attribute in attributes.iter().flat_map(one_by_one) {
            shares.of_name(decisive_name(&attribute.meta)).push(attribute);
        }
        shares
    }

    fn of_name(&mut self, name: Option<Ident>) -> &mut Vec<Attribute> {
        match name.map(|name| name.to_string()).as_deref() {
            Some("cfg") => &mut self.conditions,
            Some("allow" | "warn" | "deny" | "forbid") => &mut self.lints,
            Some("expect") => &mut self.body,
            _ => &mut self.tests,
        }
    }
}

/// `#[cfg_attr(condition, a, b)]` as `#[cfg_attr(condition, a)]` and `#[cfg_attr(condition, b)]`;
/// any other attribute as it is.
fn one_by_one(attribute: &Attribute) -> Vec<Attribute> {
    let Some((condition, metas)) = conditional(&attribute.meta) else {
        return vec![attribute.clone()];
    };
    let one = |meta: &Meta| {
        let mut attribute = attribute.clone();
        if let Meta::List(list) = &mut attribute.meta {
            list.tokens = quote!(#condition, #meta);
        }
        attribute
    };
    metas.iter().map(one).collect()
}

/// The name that says where an attribute belongs: in `cfg_attr` that of what it stands for.
fn decisive_name(meta: &Meta) -> Option<Ident> {
    match conditional(meta) {
        Some((_, metas)) => metas.first().and_then(decisive_name),
        None => meta.path().get_ident().cloned(),
    }
}

/// The condition and the attributes of a `cfg_attr`.
fn conditional(meta: &Meta) -> Option<(Meta, Vec<Meta>)> {
    let Meta::List(list) = meta else { return None };
    if !list.path.is_ident("cfg_attr") {
        return None;
    }
    let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(list.tokens.clone()).ok()?;
    let mut metas = metas.into_iter();
    Some((metas.next()?, metas.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expansion(arguments: &str, item: &str, expected: &str) {
        let expanded = expand(arguments.parse().unwrap(), item.parse().unwrap());
        let expected: TokenStream = expected.parse().unwrap();
        assert_eq!(expanded.to_string(), expected.to_string());
        syn::parse2::<syn::File>(expanded).unwrap();
    }

    #[track_caller]
    fn check_errors(item: &str, expected: &[(&str, &str)]) {
        let mut complaints = Complaints::default();
        check_function(&syn::parse_str(item).unwrap(), &mut complaints);
        let errors = complaints.into_pairs();
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for ((at, message), (expected_at, part)) in errors.iter().zip(expected) {
            assert_eq!(at, expected_at, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn nothing_said() {
        check_expansion(
            "",
            "async fn name() { body().await }",
            "#[::core::prelude::v1::test]
            fn name() {
                async fn name() { body().await }
                ::trine::testing::Plan::new(
                    ::core::concat!(::core::module_path!(), \"::\", ::core::stringify!(name))
                )
                .kernel(::trine::testing::Kernel::Sim)
                .check(|| name());
            }",
        );
    }

    #[test]
    fn other_attributes_are_passed_on() {
        check_expansion(
            "kernel = \"real\", clock = \"real\", timeout = \"1m\"",
            "/// A story.\n #[should_panic(expected = \"x\")] #[ignore] #[cfg(unix)]
            pub async fn name() -> Result<(), String> { body().await }",
            "#[::core::prelude::v1::test]
            /// A story.\n #[should_panic(expected = \"x\")] #[ignore] #[cfg(unix)]
            pub fn name() {
                async fn name() -> Result<(), String> { body().await }
                ::trine::testing::Plan::new(
                    ::core::concat!(::core::module_path!(), \"::\", ::core::stringify!(name))
                )
                .kernel(::trine::testing::Kernel::Real)
                .clock(::trine::testing::Clock::Real)
                .timeout(::core::time::Duration::from_millis(60000))
                .check(|| name());
            }",
        );
    }

    #[test]
    fn a_plain_function() {
        check_expansion(
            "seed = 7",
            "fn name() -> Result { run(async || Ok(())) }",
            "#[::core::prelude::v1::test]
            fn name() {
                fn name() -> Result { run(async || Ok(())) }
                ::trine::testing::Plan::new(
                    ::core::concat!(::core::module_path!(), \"::\", ::core::stringify!(name))
                )
                .kernel(::trine::testing::Kernel::Sim)
                .seed(7)
                .check_plain(name);
            }",
        );
    }

    #[test]
    fn both_kernels() {
        check_expansion(
            "kernel = \"both\", runs = 3, faults = \"wild\"",
            "async fn name() -> Result { super::body().await }",
            "#[cfg(test)]
            async fn name() -> Result { super::body().await }

            #[cfg(test)]
            mod name {
                #[::core::prelude::v1::test]
                fn real() {
                    ::trine::testing::Plan::new(
                        ::core::concat!(::core::module_path!(), \"::\", \"real\")
                    )
                    .kernel(::trine::testing::Kernel::Real)
                    .runs(3)
                    .check(|| super::name());
                }
                #[::core::prelude::v1::test]
                fn sim() {
                    ::trine::testing::Plan::new(
                        ::core::concat!(::core::module_path!(), \"::\", \"sim\")
                    )
                    .kernel(::trine::testing::Kernel::Sim)
                    .runs(3)
                    .faults(::trine::testing::Faults::wild())
                    .check(|| super::name());
                }
            }",
        );
    }

    #[test]
    fn with_both_kernels_each_attribute_goes_where_it_works() {
        check_expansion(
            "kernel = \"both\"",
            "#[ignore]
            #[cfg(unix)]
            #[cfg_attr(miri, ignore, allow(dead_code))]
            #[expect(unused)]
            #[allow(clippy::all)]
            #[should_panic]
            fn name() { body() }",
            "#[cfg(test)]
            #[cfg(unix)]
            #[cfg_attr(miri, allow(dead_code))]
            #[allow(clippy::all)]
            #[expect(unused)]
            fn name() { body() }

            #[cfg(test)]
            #[cfg(unix)]
            #[cfg_attr(miri, allow(dead_code))]
            #[allow(clippy::all)]
            mod name {
                #[::core::prelude::v1::test]
                #[ignore]
                #[cfg_attr(miri, ignore)]
                #[should_panic]
                fn real() {
                    ::trine::testing::Plan::new(
                        ::core::concat!(::core::module_path!(), \"::\", \"real\")
                    )
                    .kernel(::trine::testing::Kernel::Real)
                    .check_plain(super::name);
                }
                #[::core::prelude::v1::test]
                #[ignore]
                #[cfg_attr(miri, ignore)]
                #[should_panic]
                fn sim() {
                    ::trine::testing::Plan::new(
                        ::core::concat!(::core::module_path!(), \"::\", \"sim\")
                    )
                    .kernel(::trine::testing::Kernel::Sim)
                    .check_plain(super::name);
                }
            }",
        );
    }

    #[test]
    fn the_user_keeps_the_spans() {
        let item: TokenStream = "async fn name() -> Result { wrong }".parse().unwrap();
        let expanded: syn::ItemFn = syn::parse2(expand(quote!(), item)).unwrap();
        let syn::Stmt::Item(syn::Item::Fn(inner)) = &expanded.block.stmts[0] else { panic!() };
        assert_eq!(inner.block.stmts[0].to_token_stream().to_string(), "wrong");
        let source = syn::spanned::Spanned::span(&inner.block.stmts[0]).source_text();
        assert_eq!(source.as_deref(), Some("wrong"));
        let syn::Stmt::Expr(syn::Expr::MethodCall(check), _) = &expanded.block.stmts[1] else {
            panic!()
        };
        assert_eq!(check.method.span().source_text().as_deref(), Some("Result"));
    }

    #[test]
    fn shapes_that_are_refused() {
        check_errors(
            "async fn name(port: u16, host: &str) {}",
            &[
                ("port: u16", "a test takes no parameters: make the value in the body"),
                ("host: &str", "a test takes no parameters: make the value in the body"),
            ],
        );
        check_errors("async fn name(&self) {}", &[("&self", "move it out of the `impl`")]);
        check_errors(
            "const unsafe extern \"C\" fn name<T>() where T: Copy {}",
            &[
                ("const", "cannot be `const`: remove the word"),
                ("unsafe", "cannot be `unsafe`: remove the word and write `unsafe` blocks"),
                ("extern \"C\"", "cannot be `extern`: remove this"),
                ("<T>", "cannot be generic: move the body to a generic function"),
                ("where T: Copy", "cannot have a `where` clause: remove it"),
            ],
        );
        check_errors("#[test] fn name() {}", &[("#[test]", "remove this")]);
        check_errors("#[tokio::test(a)] fn name() {}", &[("#[tokio::test(a)]", "remove this")]);
    }

    #[track_caller]
    fn check_items_beside_error(arguments: &str, item: &str, items: usize) {
        let file = expand(arguments.parse().unwrap(), item.parse().unwrap());
        let file: syn::File = syn::parse2(file).unwrap();
        assert!(file.items[..items].iter().all(|item| matches!(item, syn::Item::Macro(_))));
        assert!(matches!(&file.items[items..], [syn::Item::Fn(test)] if test.sig.ident == "name"));
    }

    #[test]
    fn errors_leave_the_function() {
        check_items_beside_error("a = 1, b = 2", "async fn name() {}", 2);
        check_items_beside_error("a = 1", "async fn name(port: u16) {}", 2);
    }

    #[test]
    fn what_is_not_a_function_stays_with_an_error() {
        for item in ["struct Test ;", "async fn name () ;", "mod tests { }"] {
            let text = expand(quote!(), item.parse().unwrap()).to_string();
            assert!(text.contains("this attribute goes on a function with a body"), "{text}");
            assert!(text.ends_with(item), "{text}");
        }
    }
}
