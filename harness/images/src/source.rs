//! `--image-source`: the allowed origins of a run's images.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The allowed origins of a run's images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageSource {
    /// The store, else the registry, or a stand-in if the registry cannot be reached.
    #[default]
    Auto,
    /// Always the registry.
    Pull,
    /// Always a stand-in.
    StandIn,
    /// An image archive: an OCI layout or the output of `docker save`.
    Archive(PathBuf),
}

/// A word that is not an image source.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "understand image source `{given}`: {problem}; the sources are auto, pull, stand-in and archive=PATH"
)]
pub struct ImageSourceError {
    given: String,
    problem: &'static str,
}

impl FromStr for ImageSource {
    type Err = ImageSourceError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let wrong = |problem| {
            Err(ImageSourceError {
                given: given.to_owned(),
                problem,
            })
        };
        match given.split_once('=') {
            None => match given {
                "auto" => Ok(Self::Auto),
                "pull" => Ok(Self::Pull),
                "stand-in" => Ok(Self::StandIn),
                "archive" => wrong("an archive needs its path"),
                _ => wrong("there is no such source"),
            },
            Some(("archive", "")) => wrong("the path is empty"),
            Some(("archive", path)) => Ok(Self::Archive(path.into())),
            Some(_) => wrong("only an archive has a value"),
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pull => f.write_str("pull"),
            Self::StandIn => f.write_str("stand-in"),
            Self::Archive(path) => write!(f, "archive={}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_reads_back_as_it_is_written() {
        for source in ["auto", "pull", "stand-in", "archive=/tmp/a=b.tar"] {
            assert_eq!(source.parse::<ImageSource>().unwrap().to_string(), source);
        }
    }

    #[test]
    fn anything_else_is_told_what_there_is() {
        for (given, problem) in [
            ("docker", "no such source"),
            ("", "no such source"),
            ("archive", "needs its path"),
            ("archive=", "path is empty"),
            ("pull=yes", "only an archive"),
        ] {
            let error = given.parse::<ImageSource>().unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("stand-in and archive=PATH"),
                "{error}"
            );
        }
    }
}
