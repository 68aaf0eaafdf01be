//! What is wrong with the use of an attribute, gathered so that all of it is reported at once.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::Error;

/// The errors found so far.
#[derive(Default)]
pub(crate) struct Complaints(Option<Error>);

impl Complaints {
    /// One more, which points to `wrong`.
    pub(crate) fn at(&mut self, wrong: impl ToTokens, message: impl Display) {
        self.add(Error::new_spanned(wrong, message));
    }

    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// As `compile_error!`s; nothing if all is well.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.map(Error::into_compile_error).unwrap_or_default()
    }

    /// Each error as the source it points to and its message.
    #[cfg(test)]
    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        let errors = self.0.into_iter().flatten();
        errors.map(|e| (e.span().source_text().unwrap_or_default(), e.to_string())).collect()
    }
}
