use std::io::Write;

use super::*;

fn spool() -> (tempfile::TempDir, Spool) {
    let temp = tempfile::tempdir().unwrap();
    let spool = Spool::open(&Dir::open(temp.path()).unwrap()).unwrap();
    (temp, spool)
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn envelope() -> Envelope {
    let way = Way { smtp: Some("smtp://127.0.0.1:2525".parse().unwrap()), ..Way::default() };
    let accepted = "2026-11-21T10:00:00Z".parse().unwrap();
    let message_id = "<1@x>".to_string();
    Envelope {
        from: Some(address("a@x")),
        message_id,
        accepted,
        size: 5,
        eight_bit: false,
        dsn: Default::default(),
        way,
    }
}

fn accept(spool: &Spool, id: &str) -> Entry {
    let to = [address("b@x"), address("c@x")];
    spool.accept(id, &envelope(), &to, &mut &b"hello"[..]).unwrap();
    spool.peek(Place::Mail, id).unwrap().unwrap()
}

#[test]
fn what_was_accepted_comes_back() {
    let (_temp, spool) = spool();
    let entry = accept(&spool, "1");
    let envelope = entry.envelope.as_ref().unwrap();
    assert_eq!(envelope.way.key(), "smtp: smtp://127.0.0.1:2525\n");
    assert_eq!(envelope.from.as_ref().unwrap().as_str(), "a@x");
    assert_eq!(std::io::read_to_string(entry.message().unwrap()).unwrap(), "hello");
    let to: Vec<_> = entry.recipients.iter().map(|each| (each.to.as_str(), each.state)).collect();
    assert_eq!(to, [("b@x", State::Due), ("c@x", State::Due)]);
    assert_eq!((spool.ids(Place::Mail).unwrap().len(), spool.tmp.names().unwrap().len()), (1, 0));
}

/// The table in the header: which files there are, and what counts.
#[test]
fn the_table_of_states() {
    for (files, state) in [
        (&["due"][..], State::Due),
        (&["held"], State::Held),
        (&["trying"], State::Trying),
        (&["unknown"], State::Unknown),
        (&["done"], State::Done),
        (&["failed"], State::Failed),
        (&["trying", "due"], State::Due),
        (&["trying", "failed"], State::Failed),
        (&["trying", "unknown"], State::Unknown),
        (&["due", "failed"], State::Failed),
        (&["due", "due.new"], State::Due),
        (&["trying", "failed.new"], State::Trying),
    ] {
        let (_temp, spool) = spool();
        let dir = accept(&spool, "1").dir;
        let text = dir.read("1.due").unwrap().unwrap();
        dir.remove("1.due").unwrap();
        for name in files {
            dir.create_new(format!("1.{name}"), 0o600).unwrap().write_all(&text).unwrap();
        }
        let taken = spool.take(Place::Mail, "1", Duration::ZERO).unwrap().unwrap();
        assert_eq!(taken.entry.recipients[0].state, state, "{files:?}");
        let left = dir.names().unwrap();
        let left = left.iter().filter(|name| {
            name.to_str().unwrap().starts_with("1.") && !name.to_str().unwrap().ends_with(".new")
        });
        assert_eq!(left.collect::<Vec<_>>(), [&*format!("1.{}", state.word())], "{files:?}");
    }
}

#[test]
fn settled_messages_go_where_they_belong() {
    let (_temp, spool) = spool();
    accept(&spool, "1");
    let mut taken = spool.take(Place::Mail, "1", Duration::ZERO).unwrap().unwrap();
    assert_eq!(spool.take(Place::Mail, "1", Duration::ZERO).unwrap_err().status(), 75);
    taken.entry.mark(&[0, 1], State::Trying).unwrap();
    taken.entry.mark(&[0], State::Done).unwrap();
    taken.entry.settle(1, State::Failed, |each| each.reply = Some("550 no\nsuch user".into())).unwrap();
    assert!(taken.entry.is_settled());
    spool.finish(taken).unwrap();
    assert_eq!(spool.find("1").unwrap(), Some(Place::Failed));
    let entry = spool.peek(Place::Failed, "1").unwrap().unwrap();
    assert_eq!(entry.recipients[1].reply.as_deref(), Some("550 no such user"));

    accept(&spool, "2");
    let mut taken = spool.take(Place::Mail, "2", Duration::ZERO).unwrap().unwrap();
    taken.entry.mark(&[0, 1], State::Done).unwrap();
    spool.finish(taken).unwrap();
    assert_eq!(spool.find("2").unwrap(), None);
    assert!(spool.take(Place::Mail, "2", Duration::ZERO).unwrap().is_none());
    assert!(spool.tmp.names().unwrap().is_empty());
}

#[test]
fn ids_are_no_paths() {
    let (_temp, spool) = spool();
    for id in ["", "..", "a/b", "-x", "../failed/1", "a\n"] {
        assert_eq!(spool.find(id).unwrap_err().status(), 64, "{id:?}");
    }
}

#[test]
fn what_a_crash_left_is_cleaned_and_what_is_being_written_is_not() {
    let (_temp, spool) = spool();
    spool.tmp.subdir("1", 0o700).unwrap().create_new("message", 0o600).unwrap();
    let busy = spool.tmp.subdir("2", 0o700).unwrap();
    let _lock = Lock::take(&busy, "lock", Duration::ZERO).unwrap();
    assert_eq!(spool.clean().unwrap(), 1);
    assert_eq!(spool.tmp.names().unwrap(), ["2"]);
}

#[test]
fn accepting_while_others_clean_up_is_safe() {
    let (_temp, spool) = spool();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    spool.clean().unwrap();
                }
            });
        }
        let accepted = (0..200)
            .try_for_each(|n| spool.accept(&n.to_string(), &envelope(), &[address("b@x")], &mut &b"x\n"[..]));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        accepted.unwrap();
    });
    assert_eq!((spool.ids(Place::Mail).unwrap().len(), spool.tmp.names().unwrap().len()), (200, 0));
}

#[test]
fn a_message_that_cannot_be_read_is_not_accepted() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let (_temp, spool) = spool();
    assert!(spool.accept("1", &envelope(), &[address("b@x")], &mut Bad).is_err());
    assert!(spool.ids(Place::Mail).unwrap().is_empty() && spool.tmp.names().unwrap().is_empty());
}
