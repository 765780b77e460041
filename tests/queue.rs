//! mail-queue through the binary: what waits, what is told, and that no kill loses or doubles a message.

use super::bench::{Bench, Cmd, Ran, Server};
use super::inject::hello;
use super::transcript::Transcript;

const ONE: &str = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nS: 250 2.0.0 ok\n";

fn queue(bench: &Bench, words: &[&str]) -> Cmd {
    bench.cmd("mail-queue").args(words)
}

fn accept(bench: &Bench, url: &str, to: &[&str]) -> Cmd {
    let cmd = bench.cmd("mail-inject").args(["--queue", "--smtp", url, "--from", "me@by.example", "-s", "s"]);
    to.iter().fold(cmd.args(["--body", "b"]), |cmd, to| cmd.args(["--to", to]))
}

/// `to:state` of all that wait.
fn waiting(bench: &Bench) -> Vec<String> {
    states(&queue(bench, &["list", "--json"]).run().ok())
}

fn states(ran: &Ran) -> Vec<String> {
    let recipients =
        ran.json().into_iter().flat_map(|record| record["recipients"].as_array().expect("a list").clone());
    recipients
        .map(|each| {
            format!("{}:{}", each["to"].as_str().expect("a text"), each["state"].as_str().expect("a text"))
        })
        .collect()
}

fn only_id(bench: &Bench) -> String {
    let records = queue(bench, &["list", "--json"]).run().ok().json();
    assert_eq!(records.len(), 1);
    records[0]["id"].as_str().expect("a text").to_string()
}

/// How many copies of a message lie in a user's mailbox.
fn copies(bench: &Bench, user: &str, id: &str) -> usize {
    let dir = format!("server/{user}/new");
    let holds = |name: &std::path::PathBuf| {
        let bytes = bench.read(&format!("{dir}/{}", name.display()));
        memchr::memmem::find(&bytes, id.as_bytes()).is_some()
    };
    bench.files(&dir).iter().filter(|name| holds(name)).count()
}

#[test]
fn accepted_is_not_sent_and_run_sends_it_once() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let id = accept(&bench, &server.smtp, &["you@by.example", "me@by.example"]).run().ok().out_text();
    let id = id.trim();
    assert_eq!(copies(&bench, "you@by.example", id), 0);
    assert_eq!(waiting(&bench), ["you@by.example:due", "me@by.example:due"]);
    assert_eq!(queue(&bench, &["run"]).run().ok().lines(), [id]);
    assert_eq!((copies(&bench, "you@by.example", id), copies(&bench, "me@by.example", id)), (1, 1));
    assert_eq!(queue(&bench, &["run"]).run().ok().out_text(), "");
    assert_eq!(queue(&bench, &["list"]).run().ok().out_text(), "");
    assert!(bench.files("home/.local/state/mailloop/queue").is_empty());
}

#[test]
fn an_account_is_the_way_too() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("secret", "secret\n");
    let config = format!(
        "[account.me]\naddress = \"me@by.example\"\nsmtp = \"{}\"\npassword_file = \"{}\"\n",
        server.smtp,
        bench.path("secret").display()
    );
    bench.write("config.toml", &config);
    let inject = |args: &[&str]| {
        bench
            .cmd("mail-inject")
            .args(["-c", "config.toml", "--queue", "--to", "you@by.example"])
            .args(args)
            .run()
            .ok()
    };
    let id = inject(&["-a", "me"]).out_text();
    inject(&[]);
    // The account is looked up when it is sent: without it the messages stay.
    queue(&bench, &["run"]).run().fails(78).err_has("no account");
    assert_eq!(waiting(&bench).len(), 2);
    for record in queue(&bench, &["list", "--json"]).run().ok().json() {
        queue(&bench, &["release", record["id"].as_str().expect("a text")]).run().ok();
    }
    let ran = queue(&bench, &["run", "-c", "config.toml"]).run().ok();
    assert_eq!(ran.lines().len(), 2);
    assert_eq!(copies(&bench, "you@by.example", id.trim()), 1);
}

#[test]
fn few_open_files_suffice_for_many_recipients() {
    let bench = Bench::new();
    let group = |count: usize| {
        let commands = format!("C: MAIL *\n{}C: DATA\n", "C: RCPT *\n".repeat(count));
        format!("{commands}{}S: 354 go\nC~ .\nS: 250 taken\n", "S: 250 ok\n".repeat(count + 1))
    };
    let play =
        Transcript::play([hello(&["PIPELINING"]) + &group(100) + &group(100) + &group(50) + "C: QUIT"]);
    let to: Vec<String> = (0..250).map(|n| format!("n{n}@y.example")).collect();
    let script = format!(
        "ulimit -n 128; {} --queue --smtp {} --from me@by.example -s s --body b --to {} && {} run",
        env!("CARGO_BIN_EXE_mail-inject"),
        play.url("smtp"),
        to.join(","),
        env!("CARGO_BIN_EXE_mail-queue"),
    );
    assert_eq!(bench.sh(&script).run().ok().lines().len(), 2);
    play.heard();
    assert!(bench.files("home/.local/state/mailloop/queue").is_empty());
}

#[test]
fn many_messages_share_a_connection() {
    let bench = Bench::new();
    let play = Transcript::play([format!("{}{ONE}{ONE}{ONE}C: QUIT", hello(&[]))]);
    for _ in 0..3 {
        accept(&bench, &play.url("smtp"), &["a@y.example"]).run().ok();
    }
    assert_eq!(queue(&bench, &["run"]).run().ok().lines().len(), 3);
    play.heard();
}

#[test]
fn refused_for_now_waits_and_refused_for_good_is_kept() {
    let bench = Bench::new();
    let three = "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\n\
                 S: 250 ok\nS: 250 ok\nS: 451 4.7.1 greylisted\nS: 550 5.1.1 no such user\nS: 354 go\nC~ .\nS: 250 ok\nC? QUIT";
    let again = "C: MAIL *\nC: RCPT TO:<b@y.example>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nC~ .\nS: 250 ok\nC? QUIT";
    let play = Transcript::play([hello(&["PIPELINING"]) + three, hello(&["PIPELINING"]) + again]);
    accept(&bench, &play.url("smtp"), &["a@y.example", "b@y.example", "c@y.example"]).run().ok();
    let ran = queue(&bench, &["run"]).run().fails(75).err_has("greylisted").err_has("no such user");
    assert_eq!(ran.lines().len(), 1);
    let record = &queue(&bench, &["list", "--json"]).run().ok().json()[0];
    let states = record["recipients"].as_array().expect("a list");
    assert_eq!((states[0]["state"].as_str(), states[1]["state"].as_str()), (Some("later"), Some("failed")));
    assert_eq!((states[0]["tries"].as_u64(), states[0]["next"].is_string()), (Some(1), true));
    assert_eq!(states[0]["reply"].as_str(), Some("451 4.7.1 greylisted"));
    // Not due yet: nobody is bothered.
    assert_eq!(queue(&bench, &["run"]).run().fails(75).out_text(), "");
    // As if the time had come.
    let id = record["id"].as_str().expect("a text").to_string();
    let path = format!("home/.local/state/mailloop/queue/mail/{id}/2.due");
    let text = String::from_utf8(bench.read(&path)).unwrap();
    let past =
        text.lines().map(|line| if line.starts_with("next:") { "next: 2020-01-01T00:00:00Z" } else { line });
    bench.write(&path, past.collect::<Vec<_>>().join("\n") + "\n");
    queue(&bench, &["run"]).run().ok().err_has("is kept in");
    play.heard();
    assert_eq!(waiting(&bench), Vec::<String>::new());
    assert_eq!(states_of_failed(&bench), ["c@y.example:failed"]);
    queue(&bench, &["show", &id]).run().ok();
    queue(&bench, &["drop", &id]).run().ok();
    assert!(bench.files("home/.local/state/mailloop/queue").is_empty());
}

fn states_of_failed(bench: &Bench) -> Vec<String> {
    states(&queue(bench, &["list", "--failed", "--json"]).run().ok())
}

#[test]
fn what_failed_can_be_released() {
    let bench = Bench::new();
    let refusal =
        "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 550 no\nC: RSET\nS: 250 ok\nC: RSET\nS: 250 ok\nC? QUIT";
    let play = Transcript::play([hello(&[]) + refusal, hello(&[]) + ONE + "C? QUIT"]);
    accept(&bench, &play.url("smtp"), &["a@y.example"]).run().ok();
    let id = only_id(&bench);
    queue(&bench, &["run"]).run().fails(69);
    queue(&bench, &["release", &id]).run().ok();
    assert_eq!(waiting(&bench), ["a@y.example:due"]);
    queue(&bench, &["run"]).run().ok();
    play.heard();
}

#[test]
fn nobody_there_is_tried_again_later() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().expect("bound");
    for _ in 0..2 {
        accept(&bench, &format!("smtp://{free}"), &["a@y.example"]).run().ok();
    }
    let ran = queue(&bench, &["run"]).run().fails(75);
    assert_eq!(ran.err_text().lines().count(), 1, "{}", ran.shown());
    assert_eq!(waiting(&bench), ["a@y.example:later", "a@y.example:later"]);
}

#[test]
fn a_wrong_password_or_an_unwilling_server_costs_no_message() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("pass", "wrong\n");
    let login = ["--user", "me@by.example", "--password-file", "pass"];
    accept(&bench, &server.smtp, &["you@by.example"]).args(login).run().ok();
    queue(&bench, &["run"]).run().fails(77);
    assert_eq!(waiting(&bench), ["you@by.example:later"]);
    queue(&bench, &["drop", &only_id(&bench)]).run().ok();
    let play = Transcript::play(["S: 554 go away"]);
    accept(&bench, &play.url("smtp"), &["you@by.example"]).run().ok();
    queue(&bench, &["run"]).run().fails(75).err_has("554 go away");
    assert_eq!(waiting(&bench), ["you@by.example:later"]);
}

/// As if the only message had been accepted years ago.
fn grow_old(bench: &Bench) {
    let path = format!("home/.local/state/mailloop/queue/mail/{}/envelope", only_id(bench));
    let text = String::from_utf8(bench.read(&path)).unwrap();
    let old = text
        .lines()
        .map(|line| if line.starts_with("accepted:") { "accepted: 2020-01-01T00:00:00Z" } else { line });
    bench.write(&path, old.collect::<Vec<_>>().join("\n") + "\n");
}

/// What was to be sent again and could not even be tried is not "failed": it may have arrived.
#[test]
fn what_is_unknown_is_not_given_up_untried() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().expect("bound");
    accept(&bench, &format!("smtp://{free}"), &["a@y.example", "b@y.example"]).run().ok();
    grow_old(&bench);
    let dir = format!("home/.local/state/mailloop/queue/mail/{}", only_id(&bench));
    std::fs::rename(bench.path(&format!("{dir}/1.due")), bench.path(&format!("{dir}/1.unknown"))).unwrap();
    let ran = queue(&bench, &["run", "--resend-unknown"]).run().err_has("b@y.example does not get");
    assert!(!ran.err_text().contains("a@y.example does not get"), "{}", ran.shown());
    let id = only_id(&bench);
    let shown = queue(&bench, &["show", &id]).run().ok().out_text();
    assert!(shown.contains("a@y.example: unknown") && shown.contains("b@y.example: failed"), "{shown}");
}

#[test]
fn given_up_after_five_days() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().expect("bound");
    accept(&bench, &format!("smtp://{free}"), &["a@y.example"]).run().ok();
    grow_old(&bench);
    queue(&bench, &["run"]).run().err_has("given up after 5 days");
    assert_eq!(states_of_failed(&bench), ["a@y.example:failed"]);
}

#[test]
fn unknown_is_never_sent_again_unasked() {
    let bench = Bench::new();
    let cut = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nCLOSE";
    let play = Transcript::play([hello(&[]) + cut, hello(&[]) + ONE + "C? QUIT"]);
    accept(&bench, &play.url("smtp"), &["a@y.example"]).run().ok();
    let id = only_id(&bench);
    queue(&bench, &["run"]).run().fails(76).err_has("may or may not");
    assert_eq!(waiting(&bench), ["a@y.example:unknown"]);
    assert_eq!(queue(&bench, &["run"]).run().ok().out_text(), "");
    queue(&bench, &["release", &id]).run().fails(64).err_has("--resend-unknown");
    assert_eq!(waiting(&bench), ["a@y.example:unknown"]);
    queue(&bench, &["release", "--resend-unknown", &id]).run().ok();
    queue(&bench, &["run"]).run().ok();
    play.heard();
}

/// Asked for, a run sends it again: once, then it is what the answer says.
#[test]
fn a_run_sends_what_is_unknown_again_when_asked_to() {
    let bench = Bench::new();
    let cut = "C: MAIL *\nS: 250 ok\nC: RCPT *\nS: 250 ok\nC: DATA\nS: 354 go\nC~ .\nCLOSE";
    let play =
        Transcript::play([hello(&[]) + cut, hello(&[]) + cut, format!("{}{ONE}{ONE}C? QUIT", hello(&[]))]);
    let url = play.url("smtp");
    accept(&bench, &url, &["a@y.example"]).run().ok();
    queue(&bench, &["run"]).run().fails(76).err_has("unasked");
    // Again without an answer: still unknown, and not a third time in the same run.
    queue(&bench, &["run", "--resend-unknown"]).run().fails(76);
    assert_eq!(waiting(&bench), ["a@y.example:unknown"]);
    assert_eq!(queue(&bench, &["run"]).run().ok().out_text(), "");
    // The mark of a run that died is unknown too.
    accept(&bench, &url, &["b@y.example"]).run().ok();
    queue(&bench, &["hold", &id_of(&bench, "b@y.example")]).run().ok();
    let dir = format!("home/.local/state/mailloop/queue/mail/{}", id_of(&bench, "b@y.example"));
    std::fs::rename(bench.path(&format!("{dir}/1.held")), bench.path(&format!("{dir}/1.trying"))).unwrap();
    let sent = queue(&bench, &["run", "--resend-unknown"]).run().ok().lines();
    assert_eq!(sent.len(), 2);
    play.heard();
    assert_eq!(waiting(&bench), Vec::<String>::new());
    queue(&bench, &["run", "--watch", "--resend-unknown"]).run().fails(64);
}

fn id_of(bench: &Bench, to: &str) -> String {
    let records = queue(bench, &["list", "--json"]).run().ok().json();
    let its = |record: &&serde_json::Value| record["recipients"][0]["to"].as_str() == Some(to);
    records.iter().find(its).expect("it waits")["id"].as_str().expect("a text").to_string()
}

#[test]
fn held_stays_and_dropped_is_gone() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let id = accept(&bench, &server.smtp, &["you@by.example"]).run().ok().out_text();
    let name = only_id(&bench);
    queue(&bench, &["hold", &name]).run().ok();
    assert_eq!(waiting(&bench), ["you@by.example:held"]);
    queue(&bench, &["run"]).run().ok();
    queue(&bench, &["release", &name]).run().ok();
    queue(&bench, &["run"]).run().ok();
    assert_eq!(copies(&bench, "you@by.example", id.trim()), 1);
    queue(&bench, &["show", &name]).run().fails(66);
    queue(&bench, &["drop", &name, "../mail"]).run().fails(66);
    queue(&bench, &["drop", "../mail"]).run().fails(64);
    queue(&bench, &["hold"]).run().fails(64);
}

#[test]
fn what_failed_cannot_be_held_and_says_how_often_it_was_tried() {
    let bench = Bench::new();
    let server = bench.sandbox();
    accept(&bench, &server.smtp, &["nobody@by.example"]).run().ok();
    let id = only_id(&bench);
    queue(&bench, &["run"]).run().fails(69);
    queue(&bench, &["show", &id]).run().ok();
    let shown = queue(&bench, &["show", &id]).run().ok().out_text();
    assert!(shown.contains("nobody@by.example: failed, tries 1 no-user 550"), "{shown}");
    queue(&bench, &["hold", &id]).run().fails(64).err_has("nothing of it waits");
}

#[test]
fn secrets_do_not_lie_in_the_queue() {
    let bench = Bench::new();
    let server = bench.sandbox();
    bench.write("pass", "secret\n");
    let login = ["--user", "me@by.example", "--password-file", "pass"];
    accept(&bench, &server.smtp, &["you@by.example"]).args(login).run().ok();
    let text = String::from_utf8(
        bench.read(&format!("home/.local/state/mailloop/queue/mail/{}/envelope", only_id(&bench))),
    );
    let text = text.unwrap();
    assert!(text.contains(&format!("password-file: {}\n", bench.path("pass").display())), "{text}");
    assert!(!text.contains("secret"), "{text}");
    // Run from elsewhere: paths were made absolute.
    bench.sh("cd / && mail-queue run").run().ok();
}

#[test]
fn two_runs_at_once_double_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let ids: Vec<String> =
        (0..20).map(|_| accept(&bench, &server.smtp, &["you@by.example"]).run().ok().out_text()).collect();
    let runs: Vec<_> = (0..3).map(|_| queue(&bench, &["run"]).spawn()).collect();
    for run in runs {
        let ran = run.wait();
        assert!([Some(0), Some(75)].contains(&ran.status), "{}", ran.shown());
    }
    for id in &ids {
        assert_eq!(copies(&bench, "you@by.example", id.trim()), 1);
    }
    assert_eq!(queue(&bench, &["run"]).run().ok().out_text(), "");
}

/// How many durable steps `cmd` takes.
fn steps(bench: &Bench, cmd: Cmd) -> usize {
    cmd.env("MAILLOOP_STEPS", bench.path("steps")).run();
    let count = String::from_utf8(bench.read("steps")).expect("text").lines().count();
    std::fs::remove_file(bench.path("steps")).expect("it is there");
    assert!(count > 3, "{count}");
    count
}

/// One step fails undone, or done all the same, or with all that follow.
fn failures(count: usize) -> impl Iterator<Item = String> {
    (1..=count).flat_map(|step| [format!("{step}"), format!("{step}+"), format!("{step}..")])
}

fn stops(count: usize) -> impl Iterator<Item = String> {
    (1..=count).flat_map(|step| [format!("{step}-"), format!("{step}+")])
}

#[test]
fn accepting_killed_at_every_step_is_all_or_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let to = ["you@by.example", "me@by.example"];
    for stop in stops(steps(&bench, accept(&bench, &server.smtp, &to).args(["--state", "count"]))) {
        let state = format!("state-{stop}");
        let ran =
            accept(&bench, &server.smtp, &to).args(["--state", &state]).env("MAILLOOP_STOP", &stop).run();
        assert_eq!((ran.signal, ran.out_text().as_str()), (Some(9), ""), "{}", ran.shown());
        let listed = states(&queue(&bench, &["list", "--json", "--state", &state]).run().ok()).len();
        assert!(listed == 0 || listed == 2, "{stop}: {listed}");
        let sent = queue(&bench, &["run", "--state", &state]).run().ok().lines();
        assert_eq!(sent.len(), listed / 2, "{stop}");
        assert!(bench.files(&state).is_empty(), "{stop}: {:?}", bench.files(&state));
        for id in sent {
            assert_eq!((copies(&bench, to[0], &id), copies(&bench, to[1], &id)), (1, 1), "{stop}");
        }
    }
}

#[test]
fn a_full_disk_accepts_nothing() {
    let bench = Bench::new();
    let to = ["you@by.example"];
    let count = steps(&bench, accept(&bench, "smtp://127.0.0.1:9", &to).args(["--state", "count"]));
    for fail in failures(count) {
        let state = format!("state-{fail}");
        let cmd = accept(&bench, "smtp://127.0.0.1:9", &to).args(["--state", &state]);
        let ran = cmd.env("MAILLOOP_FAIL", &fail).run();
        assert_eq!(ran.out_text().is_empty(), ran.status != Some(0), "{}", ran.shown());
        let listed = queue(&bench, &["list", "--state", &state]).run().ok().lines().len();
        // What was not accepted is not listed, or it is said that it could not be taken back.
        let is_told = ran.err_text().contains("lies in the queue all the same");
        let wanted = usize::from(ran.status == Some(0) || is_told);
        assert_eq!(listed, wanted, "{fail}: {}", ran.shown());
        assert!(!is_told || fail.ends_with(".."), "{fail}: {}", ran.shown());
        assert!([Some(0), Some(73), Some(74)].contains(&ran.status), "{fail}: {}", ran.shown());
    }
}

/// Three recipients: two are taken, one is refused. Killed anywhere, each is delivered once or told as unknown.
fn survives(bench: &Bench, server: &Server, how: &str, stop: &str) {
    let to = ["you@by.example", "me@by.example", "nobody@by.example"];
    let state = format!("state-{stop}");
    let id = accept(bench, &server.smtp, &to).args(["--state", &state]).run().ok().out_text();
    let id = id.trim();
    let ran = queue(bench, &["run", "--state", &state]).env(how, stop).run();
    let is_killed = how == "MAILLOOP_STOP";
    assert_eq!(ran.signal, is_killed.then_some(9), "{stop}: {}", ran.shown());
    queue(bench, &["run", "--state", &state]).run();
    let list = queue(bench, &["list", "--json", "--state", &state]).run().ok();
    let waiting = states(&list);
    for user in &to[..2] {
        let (got, unknown) = (copies(bench, user, id), waiting.contains(&format!("{user}:unknown")));
        assert!(got == 1 || (got == 0 && unknown), "{stop}: {user} got {got}; {}", list.shown());
    }
    assert!(
        waiting.iter().all(|each| each.ends_with(":unknown") || each == "nobody@by.example:failed"),
        "{stop}: {waiting:?}"
    );
    if waiting.is_empty() {
        let failed = states(&queue(bench, &["list", "--failed", "--json", "--state", &state]).run().ok());
        assert_eq!(failed, ["nobody@by.example:failed"], "{stop}");
    }
    let before = (copies(bench, to[0], id), copies(bench, to[1], id));
    assert_eq!(queue(bench, &["run", "--state", &state]).run().ok().out_text(), "", "{stop}");
    assert_eq!((copies(bench, to[0], id), copies(bench, to[1], id)), before, "{stop}");
}

#[test]
fn a_run_killed_at_every_step_loses_and_doubles_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let to = ["you@by.example", "me@by.example", "nobody@by.example"];
    accept(&bench, &server.smtp, &to).args(["--state", "count"]).run().ok();
    for stop in stops(steps(&bench, queue(&bench, &["run", "--state", "count"]))) {
        survives(&bench, &server, "MAILLOOP_STOP", &stop);
    }
}

#[test]
fn a_disk_that_fails_at_any_step_of_a_run_loses_and_doubles_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let to = ["you@by.example", "me@by.example", "nobody@by.example"];
    accept(&bench, &server.smtp, &to).args(["--state", "count"]).run().ok();
    for fail in failures(steps(&bench, queue(&bench, &["run", "--state", "count"]))) {
        survives(&bench, &server, "MAILLOOP_FAIL", &fail);
    }
}

#[test]
fn what_a_power_cut_left_of_a_finished_message_is_put_away() {
    let bench = Bench::new();
    accept(&bench, "smtp://127.0.0.1:9", &["a@y.example"]).run().ok();
    let dir = bench.path(&format!("home/.local/state/mailloop/queue/mail/{}", only_id(&bench)));
    std::fs::rename(dir.join("1.due"), dir.join("1.done")).unwrap();
    std::fs::remove_file(dir.join("envelope")).unwrap();
    queue(&bench, &["run"]).run().ok();
    assert!(bench.files("home/.local/state/mailloop/queue").is_empty());
}

/// All recipients taken: the message is removed, which may be cut anywhere.
#[test]
fn removing_killed_at_every_step_leaves_nothing() {
    let bench = Bench::new();
    let server = bench.sandbox();
    let to = ["you@by.example", "me@by.example"];
    accept(&bench, &server.smtp, &to).args(["--state", "count"]).run().ok();
    for stop in stops(steps(&bench, queue(&bench, &["run", "--state", "count"]))) {
        let state = format!("state-{stop}");
        let id = accept(&bench, &server.smtp, &to).args(["--state", &state]).run().ok().out_text();
        queue(&bench, &["run", "--state", &state]).env("MAILLOOP_STOP", &stop).run();
        queue(&bench, &["run", "--state", &state]).run();
        let waiting = states(&queue(&bench, &["list", "--json", "--state", &state]).run().ok());
        for user in to {
            let got = copies(&bench, user, id.trim());
            assert!(
                got == 1 || waiting.contains(&format!("{user}:unknown")),
                "{stop}: {user} {got} {waiting:?}"
            );
        }
        if waiting.is_empty() {
            assert!(bench.files(&state).is_empty(), "{stop}: {:?}", bench.files(&state));
        }
    }
}
