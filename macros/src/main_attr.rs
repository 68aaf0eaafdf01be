//! `#[trine::main]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

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
    let main = if complaints.is_empty() { program(&function) } else { stub(&function) };
    check_arguments(&arguments, &mut complaints);
    let errors = complaints.into_tokens();
    quote!(#errors #main)
}

/// A plain `main` that runs the async one, which is written inside it.
fn program(function: &Function) -> TokenStream {
    let Function { attributes, visibility, .. } = function;
    let (name, output, main) = (function.name(), function.output(), function.bare());
    let run = quote_spanned!(function.output_span()=> ::trine::__private::main(#name));
    quote! {
        #(#attributes)*
        #visibility fn #name() #output {
            #main
            #run
        }
    }
}

/// In the place of a function that cannot be run; it keeps the compiler from adding that there is
/// no `main`, or that it must not be `async`.
fn stub(function: &Function) -> TokenStream {
    let name = function.name();
    quote!(fn #name() {})
}

fn check_arguments(arguments: &TokenStream, complaints: &mut Complaints) {
    if !arguments.is_empty() {
        complaints.at(
            arguments,
            "`#[trine::main]` takes no arguments: nothing is allowed here; for other settings \
             write a plain `fn main` and use `trine::Builder`",
        );
    }
}

fn check_function(function: &Function, complaints: &mut Complaints) {
    if function.name() != "main" {
        complaints.at(
            function.name(),
            "`#[trine::main]` goes on `async fn main`; in other functions use `trine::run`",
        );
    }
    if !function.is_async() {
        complaints.at(
            function.signature.fn_token,
            "`#[trine::main]` runs an async function: write `async fn main`",
        );
    }
    function.check_shape("the main function", complaints);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expansion(item: &str, expected: &str) {
        let expanded = expand(TokenStream::new(), item.parse().unwrap());
        let expected: TokenStream = expected.parse().unwrap();
        assert_eq!(expanded.to_string(), expected.to_string());
        syn::parse2::<syn::ItemFn>(expanded).unwrap();
    }

    #[track_caller]
    fn check_errors(arguments: &str, item: &str, expected: &[(&str, &str)]) {
        let mut complaints = Complaints::default();
        let function = syn::parse_str(item).unwrap();
        check_function(&function, &mut complaints);
        check_arguments(&arguments.parse().unwrap(), &mut complaints);
        let errors = complaints.into_pairs();
        let errors: Vec<_> = errors.iter().map(|(at, text)| (&at[..], &text[..])).collect();
        assert_eq!(errors, expected);
    }

    #[test]
    fn with_a_return_type() {
        check_expansion(
            "/// Serves.\n pub async fn main() -> io::Result<()> { serve().await }",
            "/// Serves.\n pub fn main() -> io::Result<()> {
                async fn main() -> io::Result<()> { serve().await }
                ::trine::__private::main(main)
            }",
        );
    }

    #[test]
    fn without_a_return_type() {
        check_expansion(
            "async fn main() { #![allow(unused)] serve().await; }",
            "fn main() {
                async fn main() { #![allow(unused)] serve().await; }
                ::trine::__private::main(main)
            }",
        );
    }

    #[test]
    fn arguments_are_refused() {
        check_errors(
            "ctrl_c = false",
            "async fn main() {}",
            &[(
                "ctrl_c = false",
                "`#[trine::main]` takes no arguments: nothing is allowed here; for other settings \
                 write a plain `fn main` and use `trine::Builder`",
            )],
        );
    }

    #[test]
    fn another_function_is_refused() {
        check_errors(
            "",
            "fn serve(port: u16) {}",
            &[
                (
                    "serve",
                    "`#[trine::main]` goes on `async fn main`; in other functions use `trine::run`",
                ),
                ("fn", "`#[trine::main]` runs an async function: write `async fn main`"),
                (
                    "port: u16",
                    "the main function takes no parameters: make the value in the body, or move \
                     the body to a function with parameters and call that",
                ),
            ],
        );
    }

    #[track_caller]
    fn check_main_beside_error(arguments: &str, item: &str, statements: usize) {
        let file = expand(arguments.parse().unwrap(), item.parse().unwrap());
        let file: syn::File = syn::parse2(file).unwrap();
        assert!(matches!(&file.items[..], [syn::Item::Macro(error), syn::Item::Fn(main)]
            if error.mac.path.segments.last().unwrap().ident == "compile_error"
                && main.sig.ident == "main"
                && main.sig.asyncness.is_none()
                && main.block.stmts.len() == statements));
    }

    #[test]
    fn errors_leave_one_plain_main() {
        check_main_beside_error("a", "async fn main() -> Result { serve().await }", 2);
        check_main_beside_error("", "async unsafe fn main() -> Result { serve().await }", 0);
    }

    #[test]
    fn what_is_not_a_function_stays_with_an_error() {
        let text = expand(
            quote!(),
            quote!(
                struct Main;
            ),
        )
        .to_string();
        assert!(text.contains("this attribute goes on a function with a body"), "{text}");
        assert!(text.ends_with("struct Main ;"), "{text}");
    }
}
