//! Which mailboxes and messages come, what is done with them on the server, and that asking again doubles nothing.

use super::Post;
use super::fake::Fake;
use crate::bench::{Bench, Ran};

/// What Python's imaplib says about the server's INBOX after running `script` on it.
fn on_server(post: &Post, script: &str) -> Vec<String> {
    let head = format!(
        "import imaplib\nhost, port = '{}'.rsplit('/', 1)[-1].split(':')\nimap = imaplib.IMAP4(host, int(port)); \
         imap.login('me@by.example', 'secret'); imap.select('INBOX')\n",
        post.server.imap
    );
    post.bench.write("ask.py", head + script);
    post.bench.cmd("python3").arg("ask.py").run().ok().lines()
}

fn sizes(post: &Post) {
    for (name, size) in [("a", 10), ("b", 5000), ("c", 20), ("d", 9000)] {
        post.deliver(name, &"x".repeat(size));
    }
}

fn uids(ran: &Ran) -> Vec<u64> {
    ran.json().iter().filter_map(|record| record["uid"].as_u64()).collect()
}

#[test]
fn what_is_too_large_is_recorded_once_and_comes_later() {
    let post = Post::new();
    sizes(&post);
    let first = post.fetch("mail").args(["--max-size", "4K", "--json"]).run().ok().err_has("--max-size");
    let states: Vec<String> =
        first.json().iter().map(|one| format!("{} {}", one["uid"], one["state"].as_str().unwrap())).collect();
    assert_eq!(states, ["2 skipped", "4 skipped", "1 delivered", "3 delivered"], "{}", first.shown());
    assert!(first.json()[0]["size"].as_u64().unwrap() > 5000);
    let again = post.fetch("mail").args(["--max-size", "4K", "--json"]).run().ok();
    assert!(again.lines().is_empty() && again.err_text().is_empty(), "{}", again.shown());
    assert_eq!(uids(&post.fetch("mail").args(["--max-size", "6K", "--json"]).run().ok()), [2]);
    assert_eq!(uids(&post.fetch("mail").arg("--json").run().ok()), [4]);
    assert_eq!(post.digests("mail"), post.on_server());
}

#[test]
fn filters_combine_and_mark_nothing_as_taken() {
    let post = Post::new();
    sizes(&post);
    let json = |args: &[&str]| uids(&post.fetch("mail").arg("--json").args(args).run().ok());
    post.fetch("mail").args(["--match", "(("]).run().fails(64).err_has("SEARCH keys");
    assert_eq!(json(&["--match", "SUBJECT b"]), [2]);
    assert_eq!(json(&["--since", "2000-01-01", "--newest-first", "--limit", "1"]), [4]);
    assert!(json(&["--since", "2999-01-01"]).is_empty());
    assert_eq!(json(&["--limit", "1"]), [1]);
    assert_eq!(json(&[]), [3]);
    assert!(json(&[]).is_empty());
    post.deliver("e", "x");
    let told = post.fetch("mail").arg("-n").run().ok().err_has("would fetch UID 5");
    assert!(told.lines().is_empty());
    assert_eq!(json(&[]), [5]);
    assert_eq!(post.digests("mail"), post.on_server());
}

#[test]
fn patterns_exclude_and_several_connections_share_the_work() {
    let post = Post::new();
    on_server(
        &post,
        "for name in ['a', 'a/b', 'a/c', 'junk', 'x']:\n  imap.create(name)\n  for n in range(5):\n    \
         imap.append(name, None, None, b'Subject: %d\\r\\n\\r\\n%s\\r\\n' % (n, name.encode()))",
    );
    assert_eq!(post.fetch("m").args(["a/%", "!a/c"]).run().ok().lines().len(), 5);
    let ran = post.fetch("m").args(["-j", "4", "*", "!junk"]).run().ok();
    assert_eq!(ran.lines().len(), 15, "{}", ran.shown());
    assert!(post.fetch("m").args(["-j", "3", "*", "!junk"]).run().ok().lines().is_empty());
    let all = post.fetch("m").arg("*").run().ok();
    assert_eq!(all.lines().len(), 5, "{}", all.shown());
    assert!(all.lines()[0].contains("/.junk/new/"));
    post.fetch("m").args(["-j", "3", "nowhere", "a"]).run().fails(69).err_has("no such mailbox");
}

#[test]
fn nothing_new_opens_nothing() {
    let post = Post::new();
    on_server(
        &post,
        "for name in ['a', 'b', 'c']:\n  imap.create(name)\n  imap.append(name, None, None, b'\\r\\nx\\r\\n')",
    );
    assert_eq!(post.fetch("m").arg("*").run().ok().lines().len(), 3);
    let ran = post.fetch("m").args(["-vv", "*"]).run().ok().err_has("LIST-STATUS");
    assert!(!ran.err_text().contains("EXAMINE") && !ran.err_text().contains("SEARCH"), "{}", ran.shown());
    // One mailbox: log in, look, log out.
    post.fetch("m").run().ok();
    let ran = post.fetch("m").arg("-vv").run().ok();
    assert_eq!(ran.err_text().matches("mail-fetch: C: ").count(), 3, "{}", ran.shown());
    assert!(!ran.err_text().contains("c2VjcmV0") && !ran.err_text().contains("secret"), "{}", ran.shown());
}

#[test]
fn the_server_keeps_everything_as_it_is_unless_asked() {
    let post = Post::new();
    sizes(&post);
    let flags = "print(imap.uid('SEARCH', 'UNSEEN UNFLAGGED UNDELETED')[1])";
    let before = on_server(&post, flags);
    assert_eq!(post.fetch("m1").run().ok().lines().len(), 4);
    assert_eq!(on_server(&post, flags), before);
    post.fetch("m2").args(["--after", "seen", "--limit", "1"]).run().ok();
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'SEEN')[1])"), ["[b'1']"]);
    // A message that was fetched without it is not touched when it is asked for later.
    post.fetch("m1").args(["--after", "delete"]).run().ok();
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1])"), ["[b'1 2 3 4']"]);
    post.fetch("m3").args(["--after", "flag:$Fetched", "--limit", "2"]).run().ok();
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'KEYWORD $Fetched')[1])"), ["[b'1 2']"]);
    post.fetch("m3").args(["--after", "flag:\\Deleted"]).run().fails(64);
}

#[test]
fn moved_and_deleted_there_once_it_is_durable_here() {
    let post = Post::new();
    sizes(&post);
    on_server(&post, "imap.create('Old')\nimap.uid('STORE', '4', '+FLAGS', '(\\\\Deleted)')");
    post.fetch("m").args(["--after", "move:Old", "--limit", "1"]).run().ok();
    assert_eq!(
        on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1]); print(imap.select('Old')[1])"),
        ["[b'2 3 4']", "[b'1']"]
    );
    post.fetch("m").args(["--after", "delete", "--limit", "1"]).run().ok();
    // The one that somebody else marked as deleted is still there: only ours went.
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1])"), ["[b'3 4']"]);
    let told = post.fetch("m").args(["--after", "delete-after:30"]).run().ok();
    assert_eq!(told.lines().len(), 2);
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1])"), ["[b'3 4']"]);
    // Fewer days now do not shorten those that were asked for then.
    post.fetch("m").args(["--after", "delete-after:0"]).run().ok();
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1])"), ["[b'3 4']"]);
    // Thirty days pass. What was deleted here in the meantime stays there.
    std::fs::remove_file(post.bench.path(&told.lines()[0])).unwrap();
    let cursor =
        post.bench.files("m").into_iter().find(|file| file.to_string_lossy().starts_with("mailloop-cursor"));
    let cursor = format!("m/{}", cursor.unwrap().display());
    let text = String::from_utf8(post.bench.read(&cursor)).unwrap();
    post.bench.write(&cursor, text.replace("\"owed\":", "\"owed\":-"));
    post.fetch("m").args(["--after", "delete-after:30"]).run().ok();
    assert_eq!(on_server(&post, "print(imap.uid('SEARCH', 'ALL')[1])").len(), 1);
    assert_eq!(on_server(&post, "print(len(imap.uid('SEARCH', 'ALL')[1][0].split()))"), ["1"]);
}

#[test]
fn many_at_once_ask_for_yes() {
    let post = Post::new();
    for n in 0..30 {
        post.deliver(&format!("m{n:02}"), "x");
    }
    let ran = post.fetch("m").args(["--after", "delete"]).run().fails(77).err_has("--yes");
    assert_eq!(ran.lines().len(), 30, "{}", ran.shown());
    assert_eq!(post.on_server().len(), 30);
    post.fetch("m").args(["--after", "delete", "--yes"]).run().ok();
    assert_eq!((post.on_server().len(), post.digests("m").len()), (0, 30));
    // A server that shows nothing takes nothing away here.
    assert!(post.fetch("m").run().ok().lines().is_empty());
    assert_eq!(post.digests("m").len(), 30);
}

#[test]
fn killed_at_every_step_nothing_is_deleted_there_that_is_not_durable_here() {
    let count = {
        let post = Post::new();
        sizes(&post);
        post.fetch("m")
            .args(["--after", "delete"])
            .env("MAILLOOP_STEPS", post.bench.path("steps"))
            .run()
            .ok();
        String::from_utf8(post.bench.read("steps")).unwrap().lines().count()
    };
    for step in 1..=count {
        let post = Post::new();
        sizes(&post);
        let all = post.on_server();
        let fetch = || post.fetch("m").args(["--after", "delete"]);
        let killed = fetch().env("MAILLOOP_STOP", format!("{step}-")).run();
        assert_eq!(killed.signal, Some(9), "{}", killed.shown());
        let mut both = [post.digests_of_delivered("m"), post.on_server()].concat();
        both.sort();
        both.dedup();
        assert_eq!(both, all, "step {step}: every message is here or there");
        fetch().run().ok();
        assert_eq!((post.digests("m"), post.on_server()), (all, Vec::new()), "step {step}");
    }
}

/// What a server says of sizes before is believed only as long as nothing else shows.
#[test]
fn max_size_is_held_to_what_comes() {
    let bench = Bench::new();
    let fake = Fake::new(&["INBOX"]);
    fake.change(|state| {
        let inbox = state.boxes.get_mut("INBOX").unwrap();
        inbox.add("small\r\n");
        inbox.add(&"large\r\n".repeat(1000));
        inbox.larger = Some([1].into());
    });
    let fetch = || fake.fetch(&bench).args(["--max-size", "4K", "--json"]).run().ok();
    let ran = fetch().err_has("UID 2 skipped: 7000 octets are more than --max-size allows");
    let told: Vec<String> =
        ran.json().iter().map(|one| format!("{} {} {}", one["uid"], one["state"], one["size"])).collect();
    assert_eq!(told.len(), 2, "{}", ran.shown());
    assert!(told.contains(&"1 \"delivered\" 7".into()), "{}", ran.shown());
    assert!(told.contains(&"2 \"skipped\" 7000".into()), "{}", ran.shown());
    assert_eq!(bench.files("m/new").len(), 1);
    // It is known now, and comes when it may.
    let ran = fetch();
    assert!(ran.lines().is_empty() && ran.err_text().is_empty(), "{}", ran.shown());
    assert_eq!(fake.fetch(&bench).args(["--max-size", "8K"]).run().ok().lines().len(), 1);
}

/// What the server does not give comes last, so that it never stands in the way of the others.
#[test]
fn a_limit_is_not_used_up_by_what_never_comes() {
    let (bench, fake) = (Bench::new(), Fake::new(&["INBOX"]));
    fake.change(|state| {
        let inbox = state.boxes.get_mut("INBOX").unwrap();
        (0..4).for_each(|_| _ = inbox.add("one\r\n"));
        inbox.withheld = [1, 2].into();
    });
    let fetch = || fake.fetch(&bench).args(["--limit", "2"]).run();
    assert!(fetch().fails(76).lines().is_empty());
    assert_eq!(fetch().ok().lines().len(), 2);
    fetch().fails(76);
    fake.change(|state| state.boxes.get_mut("INBOX").unwrap().withheld.clear());
    assert_eq!(fetch().ok().lines().len(), 2);
}
