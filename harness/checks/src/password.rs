//! Each password is accepted or refused as expected: tried on every node over a fresh connection.

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::Violation;
use secret::Password;
use valkey::connection::{ConnectError, dial_and_connect};
use valkey::dialer::Dialer;

/// The check's name.
pub const NAME: &str = "password";

/// A credential with a printable name.
#[derive(Debug, Clone)]
pub struct Credential {
    /// `no password`, `the old password`, `the new password`, `a wrong password`.
    pub label: String,
    /// The password; `None` to send none.
    pub password: Option<Password>,
    /// True if the server must accept the password.
    pub accepted: bool,
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The pod that was asked.
    pub pod: String,
    /// The credential's label.
    pub credential: String,
    /// True if it should have been accepted.
    pub expected_accepted: bool,
    /// The server's answer.
    pub outcome: AuthOutcome,
}

/// A server's answer to a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthOutcome {
    /// Commands are served.
    Accepted,
    /// NOAUTH or WRONGPASS, as the server put it.
    Refused(String),
    /// Neither: the server could not be asked.
    Unknown(String),
}

/// Tries every credential on every pod, each over its own connection.
pub async fn attempt(dialer: &dyn Dialer, pods: &[String], credentials: &[Credential]) -> Vec<Attempt> {
    let pairs = pods
        .iter()
        .flat_map(|pod| credentials.iter().map(move |credential| (pod, credential)));
    join_all(pairs.map(|(pod, credential)| async move {
        let outcome = match dial_and_connect(dialer, pod, credential.password.as_ref()).await {
            Ok(_) => AuthOutcome::Accepted,
            Err(error @ (ConnectError::NoAuth | ConnectError::WrongPass)) => {
                AuthOutcome::Refused(error.to_string())
            }
            // A server without a password admits everyone, whatever they send.
            Err(ConnectError::NoPasswordSet) => AuthOutcome::Accepted,
            Err(error) => AuthOutcome::Unknown(error.to_string()),
        };
        Attempt {
            pod: pod.clone(),
            credential: credential.label.clone(),
            expected_accepted: credential.accepted,
            outcome,
        }
    }))
    .await
}

/// Finds attempts that did not end as promised. Reports a failed attempt too, as it proves nothing.
pub fn check(attempts: &[Attempt]) -> Vec<Violation> {
    if attempts.is_empty() {
        return vec![Violation::new(
            NAME,
            "the release",
            "attempts to authenticate",
            "none were made",
        )];
    }
    let mut violations = Vec::new();
    for attempt in attempts {
        let expected = if attempt.expected_accepted {
            "accepted"
        } else {
            "refused"
        };
        let seen = match (&attempt.outcome, attempt.expected_accepted) {
            (AuthOutcome::Accepted, true) | (AuthOutcome::Refused(_), false) => continue,
            (AuthOutcome::Accepted, false) => "accepted".to_owned(),
            (AuthOutcome::Refused(why), true) => format!("refused: {why}"),
            (AuthOutcome::Unknown(why), _) => format!("no verdict: {why}"),
        };
        let expected = format!("{} to be {expected}", attempt.credential);
        violations.push(Violation::new(NAME, &attempt.pod, expected, seen).from_pod(&attempt.pod));
    }
    violations
}

/// Returns the users that need no password, from the lines of `ACL LIST`.
pub fn open_users<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let is_open = |words: &Vec<&str>| words.contains(&"on") && words.contains(&"nopass");
    let rules = lines.into_iter().map(|line| line.split_whitespace().collect());
    rules
        .filter(is_open)
        .filter_map(|words| words.get(1).map(|&user| user.to_owned()))
        .collect()
}

/// Returns the violation of a server whose data the user reads without a password.
pub fn reads_without_password(pod: &str, user: &str) -> Violation {
    let expected = "no user to read keys without a password";
    Violation::new(NAME, pod, expected, format!("the user {user} does (nopass)")).from_pod(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_that_are_on_and_need_no_password_are_open() {
        let lines = [
            "user default on sanitize-payload #a1b2 ~* &* +@all",
            "user probe on nopass sanitize-payload resetchannels -@all +ping",
            "user old off nopass ~* &* +@all",
        ];
        assert_eq!(open_users(lines), ["probe"]);
    }

    fn made(expected_accepted: bool, outcome: AuthOutcome) -> Attempt {
        Attempt {
            pod: "valkey-0".to_owned(),
            credential: "the old password".to_owned(),
            expected_accepted,
            outcome,
        }
    }

    #[test]
    fn only_what_was_promised_passes() {
        let refused = || AuthOutcome::Refused("WRONGPASS".to_owned());
        assert_eq!(
            check(&[made(true, AuthOutcome::Accepted), made(false, refused())]),
            []
        );
        let violations = check(&[
            made(false, AuthOutcome::Accepted),
            made(true, refused()),
            made(false, AuthOutcome::Unknown("connection refused".to_owned())),
        ]);
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "password: valkey-0: expected the old password to be refused, saw accepted (as valkey-0 sees it)"
        );
        assert!(texts[1].contains("saw refused: WRONGPASS"));
        assert!(
            texts[2].contains("saw no verdict: connection refused"),
            "silence is no refusal"
        );
        assert_eq!(check(&[]).len(), 1);
    }
}
