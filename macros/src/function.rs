//! The function that an attribute stands on.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Ident, ReturnType, Signature, Visibility};

use crate::complaints::Complaints;

/// A function with a body.
///
/// The body is kept as it is, so that it may use whatever the compiler understands, and so that
/// errors in it point to where the user wrote it.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Function {
    /// Reads what an attribute stands on. What is none comes back as it was, with an error before it.
    pub(crate) fn read(item: TokenStream) -> Result<Function, TokenStream> {
        syn::parse2(item.clone()).map_err(|error| {
            let error = error.into_compile_error();
            quote!(#error #item)
        })
    }

    pub(crate) fn is_async(&self) -> bool {
        self.signature.asyncness.is_some()
    }

    pub(crate) fn name(&self) -> &Ident {
        &self.signature.ident
    }

    pub(crate) fn output(&self) -> &ReturnType {
        &self.signature.output
    }

    /// Where the name stands, for names that are made up.
    pub(crate) fn name_span(&self) -> Span {
        Span::call_site().located_at(self.name().span())
    }

    /// Where the compiler shall point if it does not like the return type.
    ///
    /// The tokens stay ours: lints about the user's style leave them alone.
    pub(crate) fn output_span(&self) -> Span {
        let place = match self.output() {
            ReturnType::Default => self.name().span(),
            ReturnType::Type(_, output) => output.span(),
        };
        Span::call_site().located_at(place)
    }

    /// The function alone: without attributes and without visibility.
    pub(crate) fn bare(&self) -> TokenStream {
        let Function { signature, body, .. } = self;
        quote!(#signature #body)
    }

    /// Complains about all that neither a main function nor a test can have; `what` is "a test".
    pub(crate) fn check_shape(&self, what: &str, complaints: &mut Complaints) {
        let Signature { constness, unsafety, abi, generics, inputs, variadic, .. } =
            &self.signature;
        if let Some(word) = constness {
            complaints.at(word, format!("{what} cannot be `const`: remove the word"));
        }
        if let Some(word) = unsafety {
            let remedy = "remove the word and write `unsafe` blocks in the body";
            complaints.at(word, format!("{what} cannot be `unsafe`: {remedy}"));
        }
        if let Some(abi) = abi {
            complaints.at(abi, format!("{what} cannot be `extern`: remove this"));
        }
        if !generics.params.is_empty() {
            let remedy =
                "move the body to a generic function and call that with the types you mean";
            complaints.at(generics, format!("{what} cannot be generic: {remedy}"));
        }
        if let Some(clause) = &generics.where_clause {
            complaints.at(clause, format!("{what} cannot have a `where` clause: remove it"));
        }
        for input in inputs {
            let remedy = match input {
                FnArg::Receiver(_) => "move it out of the `impl` and make the value in the body",
                FnArg::Typed(_) => {
                    "make the value in the body, or move the body to a function with parameters \
                     and call that"
                }
            };
            complaints.at(input, format!("{what} takes no parameters: {remedy}"));
        }
        if let Some(dots) = variadic {
            complaints.at(dots, format!("{what} takes no parameters: remove this"));
        }
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Function> {
        let not_a_function = |error: syn::Error| {
            syn::Error::new(error.span(), "this attribute goes on a function with a body")
        };
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse().map_err(not_a_function)?;
        let token: TokenTree = input.parse().map_err(not_a_function)?;
        let wrong = syn::Error::new(token.span(), "");
        let body = block(token).ok_or_else(|| not_a_function(wrong))?;
        Ok(Function { attributes, visibility, signature, body })
    }
}

/// `{ … }`, also where it came as `$body:block` of another macro.
fn block(token: TokenTree) -> Option<Group> {
    let TokenTree::Group(group) = token else { return None };
    match group.delimiter() {
        Delimiter::Brace => Some(group),
        Delimiter::None => group.stream().into_iter().next().and_then(block),
        _ => None,
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Function { attributes, visibility, signature, body } = self;
        tokens.extend(quote!(#(#attributes)* #visibility #signature #body));
    }
}
