//! Which domains speak for which: RFC 7489 section 3.1 in its strict form, and for parents up to the public suffix.

/// True if what `signer` signed counts for senders at `domain`: the same, or a parent under which nobody else may
/// register. A sister or a child speaks for nobody: it may have been given away.
pub(super) fn covers(signer: &str, domain: &str) -> bool {
    let (signer, domain) = (signer.to_ascii_lowercase(), domain.to_ascii_lowercase());
    signer == domain || is_below(&domain, &signer) && house(&signer).is_some()
}

/// True if both hosts belong to the same registered domain.
pub(super) fn is_same_house(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    one == other || is_below(&one, &other) || house(&one).is_some_and(|found| house(&other) == Some(found))
}

fn is_below(domain: &str, parent: &str) -> bool {
    domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

/// The domain that was registered, of which `domain` is a part; none for a public suffix.
#[cfg(feature = "dkim")]
fn house(domain: &str) -> Option<&str> {
    psl::domain_str(domain)
}

/// Without the list of public suffixes only the same domain is the same.
#[cfg(not(feature = "dkim"))]
fn house(_: &str) -> Option<&str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_speak_for_their_children_and_nobody_else() {
        assert!(covers("By.example", "by.EXAMPLE"));
        for (signer, domain) in [
            ("evil.example", "by.example"),
            ("by.example", "evilby.example"),
            ("evilby.example", "by.example"),
            ("cs.by.example", "by.example"),
            ("mail.by.example", "cs.by.example"),
            ("example", "by.example"),
            ("co.uk", "bank.co.uk"),
            ("uk", "bank.co.uk"),
            ("github.io", "someone.github.io"),
            ("", "by.example"),
            (".example", "by.example"),
        ] {
            assert!(!covers(signer, domain), "{signer} {domain}");
        }
    }

    #[cfg(feature = "dkim")]
    #[test]
    fn parents_up_to_the_public_suffix() {
        assert!(covers("by.example", "cs.by.example") && covers("bank.co.uk", "mail.bank.co.uk"));
        assert!(is_same_house("mx.by.example", "imap.by.example"));
        assert!(!is_same_house("mx.by.example", "mx.other.example") && !is_same_house("a.co.uk", "b.co.uk"));
    }
}
