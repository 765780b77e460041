//! The demo: three rounds by itself, and the same rounds by the seven programs in a shell.

use rustix::process::Signal;

use crate::bench::Bench;

#[test]
fn three_rounds_come_back_identical() {
    let bench = Bench::new();
    let ran = bench.cmd("mail-loop").arg("demo").run().ok();
    let text = ran.out_text();
    assert_eq!(text.matches("identical to what was sent").count(), 3, "{text}");
    assert_eq!(text.matches("the server announced it").count(), 3, "{text}");
    assert_eq!(text.matches("would print it with: lp -t homework-").count(), 3, "{text}");
    assert!(text.lines().last().is_some_and(|line| line.contains("mail-loop init")), "{text}");
    assert!(bench.files("tmp").is_empty(), "the directory is gone");
}

#[test]
fn what_is_kept_is_there() {
    let bench = Bench::new();
    let text = bench.cmd("mail-loop").args(["demo", "--rounds", "1", "--keep"]).run().ok().out_text();
    let kept = text.lines().find_map(|line| line.strip_prefix("everything is kept in ")).unwrap();
    assert!(std::path::Path::new(kept).join("files/homework-1.pdf").is_file());
}

#[test]
fn endless_rounds_end_when_asked() {
    let bench = Bench::new();
    let mut demo = bench.cmd("mail-loop").args(["demo", "--rounds", "0"]).spawn();
    while !demo.line().contains("round 4") {}
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().signal, Some(2));
    assert!(bench.files("tmp").is_empty(), "the directory is gone");
}

#[test]
fn the_seven_programs_do_the_same_in_a_shell() {
    let bench = Bench::new();
    for round in 1..=3 {
        bench.write(&format!("homework-{round}.pdf"), crate::bench::pdf(&format!("round {round}")));
    }
    let rounds = r#"
printf 'secret\n' > password; chmod 600 password
cat > config.toml <<END
[account.demo]
address = "me@by.example"
smtp = "$SMTP"
imap = "$IMAP"
password_file = "password"
maildir = "mail"
END
export MAILLOOP_CONFIG=config.toml
for round in 1 2 3; do
  mail-inject -a demo --to me@by.example -s "round $round" --queue --attach homework-$round.pdf > id
  mail-queue run
  mail-fetch demo > messages
  test "$(wc -l < messages)" = 1
  mail-dissect -C files < messages > written
  cmp "$(cat written)" homework-$round.pdf && echo "round $round identical"
  mail-act -- lp -t {name} -- {} < written
done
mail-loop history
"#;
    let words = ["-C", "server", "--user", "me@by.example:secret", "--", "sh", "-euc", rounds];
    let ran = bench.cmd("mail-sandbox").args(words).run().ok();
    for round in 1..=3 {
        let lines = [
            format!("round {round} identical"),
            format!("lp -t homework-{round}.pdf -- ./files/homework-{round}.pdf"),
        ];
        for line in lines {
            assert!(ran.lines().contains(&line), "{line} in {}", ran.shown());
        }
    }
}
