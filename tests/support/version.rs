//! What server this is, where servers differ.

use std::fmt::{self, Display, Formatter};

use super::client::Client;

/// A release of Redis or Valkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// The version of Redis it is, or is compatible with: that is what its commands go by.
    pub(crate) redis: Vec<u32>,
    /// The version of Valkey, where it is that.
    pub(crate) valkey: Option<Vec<u32>>,
}

impl Version {
    /// Of the server that this is connected to.
    #[track_caller]
    pub(crate) fn of(client: &mut Client) -> Self {
        let text = client.run("INFO server").text();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim_end().split('.').map(|part| part.parse().unwrap()).collect())
        };
        Self { redis: field("redis_version").unwrap(), valkey: field("valkey_version") }
    }

    /// Whether it is Redis, or compatible with one, before this version, such as `[7, 2]`.
    pub(crate) fn is_before(&self, version: [u32; 2]) -> bool {
        self.redis < version.to_vec()
    }

    /// Whether it is a Valkey of this version or a later one, such as `[8, 1]`.
    pub(crate) fn is_valkey_from(&self, version: [u32; 2]) -> bool {
        self.valkey.as_ref().is_some_and(|valkey| *valkey >= version.to_vec())
    }

    /// Whether it is a Valkey of this series, such as `[8, 0]`.
    pub(crate) fn is_valkey(&self, series: [u32; 2]) -> bool {
        self.valkey.as_ref().is_some_and(|version| version.starts_with(&series))
    }
}

impl Display for Version {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (name, version) = match &self.valkey {
            Some(version) => ("Valkey", version),
            None => ("Redis", &self.redis),
        };
        let parts: Vec<String> = version.iter().map(u32::to_string).collect();
        write!(out, "{name} {}", parts.join("."))
    }
}
