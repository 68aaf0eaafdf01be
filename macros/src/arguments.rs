//! The arguments of `#[trine::test]`.

use proc_macro2::{Literal, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Ident, Lit, Token};

use crate::complaints::Complaints;
use crate::duration;

/// What was said, each thing at most once.
#[derive(Default)]
pub(crate) struct Arguments {
    kernel: Option<Kernel>,
    clock: Option<Clock>,
    seed: Option<u64>,
    runs: Option<u32>,
    timeout_ms: Option<u64>,
    faults: Option<Faults>,
    deterministic: Option<bool>,
    leaks: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernel {
    Sim,
    Real,
    Both,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Clock {
    Autojump,
    Real,
    Manual,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Faults {
    None,
    Lossless,
    Wild,
}

impl Arguments {
    /// Reads all arguments; what is wrong is complained about and left out.
    pub(crate) fn parse(tokens: TokenStream, complaints: &mut Complaints) -> Arguments {
        let mut arguments = Arguments::default();
        let mut names: Vec<Ident> = Vec::new();
        for piece in pieces(tokens, complaints) {
            let read = |input: ParseStream<'_>| arguments.read(input, &mut names);
            if let Err(error) = read.parse2(piece) {
                complaints.add(error);
            }
        }
        arguments.check_real_kernel(&names, complaints);
        arguments.check_clock(&names, complaints);
        arguments
    }

    /// Reads `name = value`.
    fn read(&mut self, input: ParseStream<'_>, names: &mut Vec<Ident>) -> syn::Result<()> {
        let name = input.call(Ident::parse_any).map_err(|error| {
            syn::Error::new(error.span(), format!("expected an argument: {}", allowed()))
        })?;
        let text = name.to_string();
        let Some(&(_, values)) = ALLOWED.iter().find(|(known, _)| *known == text) else {
            input.parse::<TokenStream>()?;
            let message = format!("`{text}` is not an argument of `#[trine::test]`: {}", allowed());
            return Err(syn::Error::new(name.span(), message));
        };
        let wanted = format!("write `{text} = …` with {values}");
        if !input.peek(Token![=]) {
            let rest: TokenStream = input.parse()?;
            let wrong = if rest.is_empty() { name.into_token_stream() } else { rest };
            return Err(syn::Error::new_spanned(wrong, wanted));
        }
        let value = read_value(input, &wanted)?;
        if names.contains(&name) {
            let message = format!("`{text}` is said twice: remove one");
            return Err(syn::Error::new(name.span(), message));
        }
        names.push(name);
        let wrong = |why: String| syn::Error::new_spanned(&value, why);
        self.set(&text, &value).map_err(|why| wrong(why.unwrap_or(wanted)))
    }

    /// Takes the value of a known argument. It fails with the reason if that is more than "this is
    /// not one of the values".
    fn set(&mut self, name: &str, value: &Lit) -> Result<(), Option<String>> {
        match name {
            "kernel" => {
                let kernels =
                    [("sim", Kernel::Sim), ("real", Kernel::Real), ("both", Kernel::Both)];
                self.kernel = Some(choice(value, kernels).ok_or(None)?);
            }
            "clock" => {
                let clocks = [
                    ("autojump", Clock::Autojump),
                    ("real", Clock::Real),
                    ("manual", Clock::Manual),
                ];
                self.clock = Some(choice(value, clocks).ok_or(None)?);
            }
            "faults" => {
                let faults = [
                    ("none", Faults::None),
                    ("lossless", Faults::Lossless),
                    ("wild", Faults::Wild),
                ];
                self.faults = Some(choice(value, faults).ok_or(None)?);
            }
            "seed" => self.seed = Some(whole(value).ok_or(None)?),
            "runs" => {
                let runs = whole(value).and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
                self.runs = Some(runs.ok_or(None)?);
            }
            "timeout" => {
                let Lit::Str(text) = value else { return Err(None) };
                let text = text.value();
                let ms = duration::parse_ms(&text).map_err(|why| {
                    format!("{text:?} is not a duration, {why}; write {}", duration::EXAMPLES)
                })?;
                self.timeout_ms = Some(ms);
            }
            "deterministic" => {
                let Lit::Bool(value) = value else { return Err(None) };
                self.deterministic = Some(value.value);
            }
            "leaks" => {
                let Lit::Bool(value) = value else { return Err(None) };
                self.leaks = Some(value.value);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_real_kernel(&self, names: &[Ident], complaints: &mut Complaints) {
        if self.kernel != Some(Kernel::Real) {
            return;
        }
        let simulated = ["faults", "deterministic", "leaks"];
        for name in names.iter().filter(|name| simulated.iter().any(|about| *name == about)) {
            complaints.at(
                name,
                format!(
                    "`{name}` is about the simulated kernel, and `kernel` is \"real\": remove it, \
                     or write `kernel = \"sim\"` or `kernel = \"both\"`"
                ),
            );
        }
    }

    fn check_clock(&self, names: &[Ident], complaints: &mut Complaints) {
        if self.clock != Some(Clock::Real) || self.kernel() == Kernel::Real {
            return;
        }
        for name in names.iter().filter(|name| *name == "clock") {
            complaints.at(
                name,
                "time does not pass by itself in a simulated world: write `kernel = \"real\"`, or \
                 another `clock`"
                    .to_owned(),
            );
        }
    }

    /// The simulated kernel unless said otherwise.
    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel.unwrap_or(Kernel::Sim)
    }

    /// The calls that tell a plan about one of the two kernels and what else was said.
    pub(crate) fn setters(&self, on: OneKernel) -> TokenStream {
        let kernel = match on {
            OneKernel::Sim => quote!(Sim),
            OneKernel::Real => quote!(Real),
        };
        let clock = self.clock.map(|clock| {
            let clock = match clock {
                Clock::Autojump => quote!(Autojump),
                Clock::Real => quote!(Real),
                Clock::Manual => quote!(Manual),
            };
            quote!(.clock(::trine::testing::Clock::#clock))
        });
        let seed = self.seed.map(Literal::u64_unsuffixed).map(|n| quote!(.seed(#n)));
        let runs = self.runs.map(Literal::u32_unsuffixed).map(|n| quote!(.runs(#n)));
        let timeout = self
            .timeout_ms
            .map(Literal::u64_unsuffixed)
            .map(|ms| quote!(.timeout(::core::time::Duration::from_millis(#ms))));
        let faults = self.faults.filter(|_| on == OneKernel::Sim).map(|faults| {
            let faults = match faults {
                Faults::None => quote!(none),
                Faults::Lossless => quote!(lossless),
                Faults::Wild => quote!(wild),
            };
            quote!(.faults(::trine::testing::Faults::#faults()))
        });
        let deterministic = self.deterministic.filter(|_| on == OneKernel::Sim);
        let deterministic = deterministic.map(|yes| quote!(.deterministic(#yes)));
        let leaks = self.leaks.filter(|_| on == OneKernel::Sim);
        let leaks = leaks.map(|yes| quote!(.leaks(#yes)));
        quote! {
            .kernel(::trine::testing::Kernel::#kernel)
            #clock #seed #runs #timeout #faults #deterministic #leaks
        }
    }
}

/// Reads `= value`, after which there is nothing.
fn read_value(input: ParseStream<'_>, wanted: &str) -> syn::Result<Lit> {
    let equals: Token![=] = input.parse()?;
    if input.is_empty() {
        return Err(syn::Error::new_spanned(equals, wanted));
    }
    let all = input.fork().parse::<TokenStream>()?;
    let value = input.parse::<Lit>();
    let surplus = input.parse::<TokenStream>()?;
    match value {
        Ok(value) if surplus.is_empty() => Ok(value),
        // `"5s" seed = 7`
        Ok(_) if surplus.clone().into_iter().nth(1).is_some_and(is_equals) => {
            Err(syn::Error::new_spanned(surplus, "expected a comma before this"))
        }
        _ => Err(syn::Error::new_spanned(all, wanted)),
    }
}

/// The kernel of one generated test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OneKernel {
    Sim,
    Real,
}

/// The tokens between the commas.
fn pieces(tokens: TokenStream, complaints: &mut Complaints) -> Vec<TokenStream> {
    let mut pieces = Vec::new();
    let mut piece = TokenStream::new();
    for token in tokens {
        match &token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => {
                if piece.is_empty() {
                    complaints.at(comma, format!("expected an argument before: {}", allowed()));
                } else {
                    pieces.push(std::mem::take(&mut piece));
                }
            }
            _ => piece.extend([token]),
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

fn is_equals(token: TokenTree) -> bool {
    matches!(token, TokenTree::Punct(sign) if sign.as_char() == '=')
}

/// The one of `choices` whose name `value` is.
fn choice<T>(value: &Lit, choices: [(&str, T); 3]) -> Option<T> {
    let Lit::Str(text) = value else { return None };
    let text = text.value();
    choices.into_iter().find(|(name, _)| *name == text).map(|(_, choice)| choice)
}

/// `value` as a number without a type behind it.
fn whole(value: &Lit) -> Option<u64> {
    let Lit::Int(number) = value else { return None };
    if number.suffix().is_empty() { number.base10_parse().ok() } else { None }
}

/// All arguments, for errors.
fn allowed() -> String {
    let names: Vec<String> = ALLOWED.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!("allowed are {}", names.join(", "))
}

/// Every argument with its values.
const ALLOWED: [(&str, &str); 8] = [
    ("kernel", "\"sim\", \"real\" or \"both\""),
    ("clock", "\"autojump\", \"real\" or \"manual\""),
    ("seed", "a whole number from 0 to 18446744073709551615, without a type"),
    ("runs", "a whole number from 1 to 4294967295, without a type"),
    ("timeout", duration::EXAMPLES),
    ("faults", "\"none\", \"lossless\" or \"wild\""),
    ("deterministic", "`true` or `false`"),
    ("leaks", "`true` or `false`"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Arguments, Vec<(String, String)>) {
        let mut complaints = Complaints::default();
        let arguments = Arguments::parse(text.parse().unwrap(), &mut complaints);
        (arguments, complaints.into_pairs())
    }

    #[track_caller]
    fn check_setters(text: &str, on: OneKernel, expected: &str) {
        let (arguments, errors) = parse(text);
        assert_eq!(errors, []);
        let expected: TokenStream = expected.parse().unwrap();
        assert_eq!(arguments.setters(on).to_string(), expected.to_string());
    }

    /// Each error points to `at`, and its message holds `part`.
    #[track_caller]
    fn check_errors(text: &str, expected: &[(&str, &str)]) {
        let (_, errors) = parse(text);
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for ((at, message), (expected_at, part)) in errors.iter().zip(expected) {
            assert_eq!(at, expected_at, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn nothing_said_is_the_simulated_kernel_and_no_more() {
        assert_eq!(parse("").0.kernel(), Kernel::Sim);
        check_setters("", OneKernel::Sim, ".kernel(::trine::testing::Kernel::Sim)");
    }

    #[test]
    fn everything_said() {
        let all = "leaks = true, deterministic = false, faults = \"lossless\", timeout = \"5s\", runs = 100, \
                   seed = 7, clock = \"autojump\", kernel = \"both\",";
        assert_eq!(parse(all).0.kernel(), Kernel::Both);
        check_setters(
            all,
            OneKernel::Sim,
            ".kernel(::trine::testing::Kernel::Sim)
             .clock(::trine::testing::Clock::Autojump)
             .seed(7)
             .runs(100)
             .timeout(::core::time::Duration::from_millis(5000))
             .faults(::trine::testing::Faults::lossless())
             .deterministic(false)
             .leaks(true)",
        );
        check_setters(
            all,
            OneKernel::Real,
            ".kernel(::trine::testing::Kernel::Real)
             .clock(::trine::testing::Clock::Autojump)
             .seed(7)
             .runs(100)
             .timeout(::core::time::Duration::from_millis(5000))",
        );
    }

    #[test]
    fn every_choice() {
        for (text, kernel) in
            [("\"sim\"", Kernel::Sim), ("\"real\"", Kernel::Real), ("\"both\"", Kernel::Both)]
        {
            let (arguments, errors) = parse(&format!("kernel = {text}"));
            assert_eq!((arguments.kernel(), errors), (kernel, vec![]));
        }
        for (text, setter) in [
            ("clock = \"autojump\"", ".clock(::trine::testing::Clock::Autojump)"),
            ("clock = \"manual\"", ".clock(::trine::testing::Clock::Manual)"),
            ("faults = \"none\"", ".faults(::trine::testing::Faults::none())"),
            ("faults = \"lossless\"", ".faults(::trine::testing::Faults::lossless())"),
            ("faults = \"wild\"", ".faults(::trine::testing::Faults::wild())"),
            ("deterministic = true", ".deterministic(true)"),
            ("leaks = false", ".leaks(false)"),
            ("seed = 0xff_ff", ".seed(65535)"),
            ("seed = 18446744073709551615", ".seed(18446744073709551615)"),
            ("runs = 1", ".runs(1)"),
            ("timeout = \"0.5s\"", ".timeout(::core::time::Duration::from_millis(500))"),
        ] {
            let expected = format!(".kernel(::trine::testing::Kernel::Sim) {setter}");
            check_setters(text, OneKernel::Sim, &expected);
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let known = "allowed are `kernel`, `clock`, `seed`, `runs`, `timeout`, `faults`, \
                     `deterministic`, `leaks`";
        check_errors("kernels = \"sim\"", &[("kernels", known)]);
        check_errors("flavor(x)", &[("flavor", known)]);
        check_errors("type = 1", &[("type", known)]);
        check_errors("\"sim\"", &[("\"sim\"", known)]);
        check_errors("seed = 1,, runs = 2", &[(",", known)]);
        check_errors(",", &[(",", known)]);
    }

    #[test]
    fn an_argument_may_be_said_once() {
        check_errors("seed = 1, runs = 2, seed = 3", &[("seed", "`seed` is said twice")]);
    }

    #[test]
    fn wrong_values_list_the_right_ones() {
        let kernels = "write `kernel = …` with \"sim\", \"real\" or \"both\"";
        check_errors("kernel = \"linux\"", &[("\"linux\"", kernels)]);
        check_errors("kernel = sim", &[("sim", kernels)]);
        check_errors("kernel = Kernel::Sim", &[("Kernel::Sim", kernels)]);
        check_errors("kernel = b\"sim\"", &[("b\"sim\"", kernels)]);
        check_errors("kernel(\"sim\")", &[("(\"sim\")", kernels)]);
        check_errors("kernel", &[("kernel", kernels)]);
        check_errors("kernel =", &[("=", kernels)]);
        check_errors("clock = true", &[("true", "\"autojump\", \"real\" or \"manual\"")]);
        check_errors("faults = \"all\"", &[("\"all\"", "\"none\", \"lossless\" or \"wild\"")]);
        check_errors("deterministic = \"no\"", &[("\"no\"", "`true` or `false`")]);
        for seed in ["\"7\"", "7u64", "-7", "7.0", "SEED", "6 + 1", "18446744073709551616"] {
            check_errors(&format!("seed = {seed}"), &[(seed, "a whole number from 0")]);
        }
        for runs in ["0", "4294967296", "-1"] {
            check_errors(&format!("runs = {runs}"), &[(runs, "a whole number from 1")]);
        }
        check_errors("timeout = 5", &[("5", "write `timeout = …` with a text of a number")]);
        check_errors(
            "timeout = \"5\"",
            &[("\"5\"", "\"5\" is not a duration, it has no unit: ms, s, m or h; write a text")],
        );
    }

    #[test]
    fn a_missing_comma_is_named() {
        check_errors("timeout = \"5s\" seed = 7", &[("seed = 7", "expected a comma")]);
    }

    #[test]
    fn all_errors_are_reported() {
        check_errors(
            "kernel = 1, speed = 2, seed = 3, runs = none",
            &[("1", "\"sim\""), ("speed", "allowed are"), ("none", "a whole number")],
        );
    }

    #[test]
    fn the_real_kernel_has_no_faults_and_no_determinism() {
        check_errors(
            "faults = \"none\", kernel = \"real\", seed = 7, runs = 2, deterministic = false",
            &[
                ("faults", "`faults` is about the simulated kernel"),
                ("deterministic", "write `kernel = \"sim\"` or `kernel = \"both\"`"),
            ],
        );
    }
}
