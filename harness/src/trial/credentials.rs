//! The passwords of one trial and their redaction: the trial's own, and those that the release's
//! servers may have now.

use super::passwords::generate;
use crate::release::Subject;
use crate::report::printable::printable;
use crate::secret::{Password, Passwords, Redactor, RunSecrets};

/// The passwords of one trial.
pub struct Credentials {
    pub(super) generated: manifests::Password,
    pub(super) passwords: Passwords,
    redactor: Redactor,
    /// The passwords of all trials of the run.
    of_run: RunSecrets,
}

impl Credentials {
    /// Makes a new password, and redacts both it and the secrets of `subject`.
    pub(super) fn new(subject: &dyn Subject, of_run: RunSecrets) -> Self {
        let generated = generate();
        let password = Password::new(generated.reveal());
        let mut credentials = Self {
            generated,
            passwords: Some(password.clone()).into(),
            redactor: Redactor::default(),
            of_run,
        };
        credentials.keep_out(&password);
        for secret in subject.secrets() {
            credentials.keep_out(&Password::new(secret));
        }
        credentials
    }

    /// Returns the password that the release's servers have now.
    pub fn current(&self) -> Password {
        let first = self.passwords.first().cloned();
        first.unwrap_or_else(|| Password::new(self.generated.reveal()))
    }

    /// Makes a unique password, and redacts it in all output.
    pub fn make(&mut self) -> Password {
        let password = Password::new(generate().reveal());
        self.keep_out(&password);
        password
    }

    /// Redacts `password` in all output.
    pub(crate) fn keep_out(&mut self, password: &Password) {
        self.redactor.register(password);
        self.of_run.register(password);
    }

    /// Notes that the servers have `password` from now on. Other passwords are tried after it.
    pub fn servers_have(&mut self, password: Password) {
        self.passwords.prefer(password);
    }

    /// Returns `text` without the trial's passwords.
    pub fn redact(&self, text: &str) -> String {
        printable(&self.redactor.redact(text)).into_owned()
    }

    /// Returns the redactor of the trial's passwords.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }
}
