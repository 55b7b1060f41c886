//! An attribute for tests that need a tool: `#[needs(kubectl)]` above `#[test]`.
//!
//! Where the tool is missing, the test is *ignored, with the reason*. A test that returns early
//! would count as passed. The test itself fails if its tool is gone when it runs.
//!
//! The compiler looks for the tool, and looks again when `PATH` changes. After an installation into
//! a folder that was on `PATH` before, `touch` the test's file.

mod tools;

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Ignores the test, with the reason, where a tool is missing. The tools are those of
/// [`tools::TOOLS`].
#[proc_macro_attribute]
pub fn needs(tools: TokenStream, test: TokenStream) -> TokenStream {
    match expand(tools, &test) {
        // The constant makes the compiler watch PATH.
        Ok(attribute) => {
            let watch = "const _: ::core::option::Option<&str> = ::core::option_env!(\"PATH\");";
            let mut tokens = parse(&attribute);
            tokens.extend(test);
            tokens.extend(parse(watch));
            tokens
        }
        Err(message) => {
            let mut tokens = parse(&format!("::core::compile_error!({message:?});"));
            tokens.extend(test);
            tokens
        }
    }
}

/// Returns the attribute that ignores the test, or nothing where every tool is there.
fn expand(tools: TokenStream, test: &TokenStream) -> Result<String, String> {
    if !has_test_attribute(test.clone()) {
        return Err("put #[needs(…)] above #[test], or it comes too late".to_owned());
    }
    let mut missing = Vec::new();
    for token in tools {
        if let TokenTree::Ident(name) = token {
            missing.extend(tools::missing(&name.to_string())?);
        }
    }
    Ok(match missing.is_empty() {
        true => String::new(),
        false => format!("#[ignore = {:?}]", missing.join("; ")),
    })
}

/// Returns true if an attribute such as `#[test]`, `#[tokio::test]` or `#[rstest]` is still to be
/// expanded.
fn has_test_attribute(item: TokenStream) -> bool {
    let mut tokens = item.into_iter();
    while let Some(TokenTree::Punct(_)) = tokens.next() {
        let Some(TokenTree::Group(group)) = tokens.next() else {
            return false;
        };
        let is_attribute = group.delimiter() == Delimiter::Bracket;
        let name: Vec<String> = group
            .stream()
            .into_iter()
            .take_while(|token| !matches!(token, TokenTree::Group(_)))
            .map(|token| token.to_string())
            .collect();
        if is_attribute && name.last().is_some_and(|last| last == "test" || last == "rstest") {
            return true;
        }
    }
    false
}

fn parse(code: &str) -> TokenStream {
    code.parse().expect("this macro writes valid tokens")
}
