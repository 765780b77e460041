//! Telling the service manager how we are (the sd_notify protocol): a datagram to `$NOTIFY_SOCKET`.
//!
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>. Without the variable nothing is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::report;

/// The way to the service manager, if there is one.
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear from us at least this often.
    pub watchdog: Option<Duration>,
    status: String,
}

impl Notify {
    /// As the environment says. A socket that cannot be used is a line on stderr.
    pub fn from_environment() -> Notify {
        let to = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let made = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(Path::new(&name)),
            };
            let made = made.and_then(|address| {
                let socket = UnixDatagram::unbound()?;
                // A manager that does not read must not hold us up.
                socket.set_nonblocking(true)?;
                Ok((socket, address))
            });
            made.inspect_err(|why| report::trouble(format_args!("cannot use NOTIFY_SOCKET: {why}"))).ok()
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Notify { to, watchdog, status: String::new() }
    }

    /// The loops run; also said after a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// We end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// We live; only to be said after having looked.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// How it goes, in one line; the same line is not said twice.
    pub fn status(&mut self, words: &str) {
        if self.status != words {
            self.status = words.to_string();
            self.send(&format!("STATUS={}", words.replace('\n', " ")));
        }
    }

    fn send(&self, words: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(why) = socket.send_to_addr(words.as_bytes(), address)
        {
            report::detail(format_args!("cannot tell the service manager: {why}"));
        }
    }
}
