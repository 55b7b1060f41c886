//! Tokens of service accounts: JSON Web Tokens, signed with a key that the server creates at
//! start-up (HS256).
//!
//! A token is valid until it expires, or until its account or bound pod is gone. The server stores
//! no tokens: the claims and the signature are enough.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::auth::same;
use super::object::{list, text};

/// The issuer of the tokens, and the audience that the API itself expects.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Block length of SHA-256, in bytes.
const BLOCK: usize = 64;

/// The key that tokens are signed with.
pub(crate) struct SigningKey([u8; BLOCK]);

/// Claims of a valid token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Name and UID of the pod that the token is bound to.
    pub(crate) pod: Option<(String, String)>,
}

impl SigningKey {
    /// Creates a random key.
    pub(crate) fn random() -> Self {
        let mut key = [0; BLOCK];
        for part in key.chunks_exact_mut(16) {
            part.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        Self(key)
    }

    /// Signs a token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({"alg": "HS256", "typ": "JWT"})),
            part(claims)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.mac(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Returns the claims of a token that this key signed for the API, unless it has expired.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !same(&signature, &self.mac(signed.as_bytes())) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        let for_api = list(&claims, &["aud"]).iter().any(|audience| audience == ISSUER);
        if !for_api || claims["exp"].as_i64()? <= now.as_second() {
            return None;
        }
        let own = &claims["kubernetes.io"];
        let of = |path: &[&str]| text(own, path).to_owned();
        Some(Claims {
            namespace: of(&["namespace"]),
            name: of(&["serviceaccount", "name"]),
            uid: of(&["serviceaccount", "uid"]),
            pod: own
                .get("pod")
                .map(|_| (of(&["pod", "name"]), of(&["pod", "uid"]))),
        })
    }

    /// Computes an HMAC-SHA256 (RFC 2104).
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let padded = |pad: u8| self.0.map(|byte| byte ^ pad);
        let inner = Sha256::new()
            .chain_update(padded(0x36))
            .chain_update(message)
            .finalize();
        Sha256::new()
            .chain_update(padded(0x5c))
            .chain_update(inner)
            .finalize()
            .into()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expires: i64, audience: &str) -> Value {
        json!({"aud": [audience], "exp": expires, "kubernetes.io": {"namespace": "ns",
            "serviceaccount": {"name": "a", "uid": "u"}, "pod": {"name": "p", "uid": "v"}}})
    }

    #[test]
    fn verify_accepts_only_unexpired_api_tokens_of_its_own_key() {
        let (key, other) = (SigningKey::random(), SigningKey::random());
        let now = Timestamp::now();
        let later = now.as_second() + 60;
        let good = key.sign(&claims(later, ISSUER));
        let said = key.verify(&good, now).expect("good");
        assert_eq!(
            (said.name.as_str(), said.pod),
            ("a", Some(("p".to_owned(), "v".to_owned())))
        );
        assert_eq!(other.verify(&good, now), None);
        assert_eq!(key.verify(&key.sign(&claims(now.as_second(), ISSUER)), now), None);
        assert_eq!(key.verify(&key.sign(&claims(later, "elsewhere")), now), None);
        for cut in 0..good.len() {
            assert_eq!(key.verify(&good[..cut], now), None);
        }
    }

    #[test]
    fn the_signature_is_hmac_sha256() {
        // RFC 4231, test case 2.
        let mut key = [0; BLOCK];
        key[..4].copy_from_slice(b"Jefe");
        let mac = SigningKey(key).mac(b"what do ya want for nothing?");
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
