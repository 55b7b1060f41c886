//! What a run says about the deployment, derived from what came of its trials.

use super::model::{Outcome, RunVerdict};

/// Derives a run's verdict, and the sentence that explains it, from the outcomes of its trials. An empty run, a run that
/// was cut short and a run that skipped everything are never green.
pub fn verdict<'a>(
    outcomes: impl IntoIterator<Item = &'a Outcome>,
    interrupted: bool,
) -> (RunVerdict, String) {
    let (mut passed, mut failed, mut skipped, mut invalid, mut broken) = (0, 0, 0, 0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed { .. } => failed += 1,
            Outcome::Skipped { .. } => skipped += 1,
            Outcome::Invalid { .. } => invalid += 1,
            Outcome::Broken { .. } => broken += 1,
        }
    }
    let total: usize = passed + failed + skipped + invalid + broken;
    if failed > 0 {
        return (
            RunVerdict::NotQualified,
            format!("{failed} of {} failed", trials(total)),
        );
    }
    let inconclusive = |because: String| (RunVerdict::Inconclusive, because);
    if interrupted {
        return inconclusive(format!(
            "the run was interrupted after {passed} trials had passed"
        ));
    }
    if broken > 0 {
        return inconclusive(format!(
            "{broken} of {} could not be run: the environment is at fault",
            trials(total)
        ));
    }
    if invalid > 0 {
        return inconclusive(format!(
            "{invalid} of {} invalid: the fault did not take place",
            trials(total)
        ));
    }
    if passed == 0 {
        return inconclusive(format!("no trial ran ({skipped} skipped)"));
    }
    let skips = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    (RunVerdict::Qualified, format!("{} passed{skips}", trials(passed)))
}

fn trials(count: usize) -> String {
    if count == 1 {
        "1 trial".to_owned()
    } else {
        format!("{count} trials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Outcome {
        Outcome::Failed {
            cause: None,
            message: "x".into(),
        }
    }

    fn skipped() -> Outcome {
        Outcome::Skipped { reason: "x".into() }
    }

    #[test]
    fn a_failure_outweighs_everything_else() {
        let broken = Outcome::Broken { reason: "x".into() };
        let (found, because) = verdict(&[Outcome::Passed, failed(), broken], true);
        assert_eq!(
            (found, because.as_str()),
            (RunVerdict::NotQualified, "1 of 3 trials failed")
        );
    }

    #[test]
    fn nothing_run_is_never_green() {
        for outcomes in [vec![], vec![skipped(), skipped()]] {
            assert_eq!(
                verdict(&outcomes, false).0,
                RunVerdict::Inconclusive,
                "{outcomes:?}"
            );
        }
        assert_eq!(verdict(&[Outcome::Passed], true).0, RunVerdict::Inconclusive);
        assert_eq!(
            verdict(&[Outcome::Passed, Outcome::Broken { reason: "x".into() }], false).0,
            RunVerdict::Inconclusive
        );
    }

    #[test]
    fn green_says_how_much_was_skipped() {
        let (found, because) = verdict(&[Outcome::Passed, skipped()], false);
        assert_eq!(
            (found, because.as_str()),
            (RunVerdict::Qualified, "1 trial passed, 1 skipped")
        );
    }
}
