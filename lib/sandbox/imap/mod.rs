//! The IMAP conversation.
use std::io;
use super::listen::House;
use super::wire::Wire;
/// Talks until the client leaves.
pub fn serve(_house: &House, _wire: &mut Wire) -> io::Result<()> {
    Ok(())
}
