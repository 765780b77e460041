//! The session as lettre's `Transport`, for code that speaks lettre.

use std::cell::RefCell;

use lettre::Transport;
use lettre::address::Envelope;

use super::{Answer, Mail, Smtp};
use crate::error::{Error, Kind};
use crate::mail::address::Address;

/// Sends what lettre composed; one answer per recipient.
pub struct SmtpTransport(RefCell<Smtp>);

impl SmtpTransport {
    /// Takes a session over.
    pub fn new(session: Smtp) -> Self {
        SmtpTransport(RefCell::new(session))
    }
}

impl Transport for SmtpTransport {
    type Ok = Vec<Answer>;
    type Error = Error;

    fn send_raw(&self, envelope: &Envelope, email: &[u8]) -> Result<Vec<Answer>, Error> {
        let busy = |why| Error::new(Kind::Internal, "cannot use the connection", why);
        let to: Result<Vec<Address>, Error> =
            envelope.to().iter().map(|address| Address::parse(address.as_ref())).collect();
        let to = to?;
        let from = envelope.from().map(|address| Address::parse(address.as_ref())).transpose()?;
        let mail = Mail {
            from: from.as_ref(),
            to: &to,
            size: email.len() as u64,
            eight_bit: !email.is_ascii(),
            dsn: Default::default(),
        };
        let mut session = self.0.try_borrow_mut().map_err(busy)?;
        session.send(&mail, &mut &email[..], &mut |_| Ok(()))
    }
}
