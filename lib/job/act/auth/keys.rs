//! Signers' keys, out of DNS.

use std::path::Path;

use crate::config::Auth;
use crate::mail::auth::Found;
use crate::net::dns::{self, Resolver};

/// Where the system names its resolvers.
const SYSTEM: &str = "/etc/resolv.conf";

/// Looks keys up; whom to ask is found out with the first question.
pub(super) struct Keys {
    auth: Auth,
    resolver: Option<Resolver>,
}

impl Keys {
    pub fn new(auth: &Auth) -> Keys {
        Keys { auth: auth.clone(), resolver: None }
    }

    pub fn look_up(&mut self, name: &str) -> Found {
        let resolver = self.resolver.get_or_insert_with(|| {
            let servers = self.auth.resolver.map_or_else(|| dns::system(Path::new(SYSTEM)), |one| vec![one]);
            Resolver::new(servers, self.auth.timeout.unwrap_or(dns::LIMIT))
        });
        match resolver.txt(name) {
            Ok(records) => Found::Records(records),
            Err(error) if error.kind().is_temporary() => Found::Later(error.to_string()),
            Err(_) => Found::Records(Vec::new()),
        }
    }
}
