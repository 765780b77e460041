//! Several accounts and mailboxes at once: each worker has one connection and takes what is left to do.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

use super::group::{Out, nobody_reads};
use super::pick::Target;
use super::{Fetcher, Options, descriptors};
use crate::error::{Error, Kind, Result, Status};
use crate::report::{self, Records};
use crate::stop;

/// Fetches all mailboxes of all accounts once, over at most `jobs` connections. Trouble with one is told and the
/// others go on.
pub fn run_all(options: &[Options], jobs: usize, records: &mut Records) -> Status {
    let out = Mutex::new(records);
    descriptors::expect(jobs);
    let board = Board { state: Mutex::default(), change: Condvar::new() };
    board.with(|state| state.accounts.extend(0..options.len()));
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (1..jobs.max(1)).map(|_| scope.spawn(|| Worker::new(options, &board, &out).work())).collect();
        Worker::new(options, &board, &out).work();
        workers.into_iter().for_each(|worker| {
            let _ = worker.join();
        });
    });
    board.with(|state| state.status)
}

/// What is left to do.
struct Board {
    state: Mutex<State>,
    change: Condvar,
}

#[derive(Default)]
struct State {
    accounts: VecDeque<usize>,
    mailboxes: VecDeque<(usize, Target)>,
    /// Accounts being looked at: more mailboxes may come.
    surveys: usize,
    /// Accounts with a connection, and how many.
    connected: Vec<usize>,
    /// Accounts that take no more connections.
    full: BTreeSet<usize>,
    status: Status,
}

enum Task {
    Account(usize),
    Mailbox(usize, Target),
}

impl Board {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let done = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.change.notify_all();
        done
    }

    /// The next task, best one of the account that this worker is connected to; waits while there may be more.
    fn next(&self, mine: Option<usize>) -> Option<Task> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if stop::requested() {
                return None;
            }
            let own = state.mailboxes.iter().position(|(account, _)| Some(*account) == mine);
            if let Some((account, target)) = own.and_then(|at| state.mailboxes.remove(at)) {
                return Some(Task::Mailbox(account, target));
            }
            if let Some(account) = state.accounts.pop_front() {
                state.surveys += 1;
                return Some(Task::Account(account));
            }
            let full = &state.full;
            let other = state.mailboxes.iter().position(|(account, _)| !full.contains(account));
            if let Some((account, target)) = other.and_then(|at| state.mailboxes.remove(at)) {
                return Some(Task::Mailbox(account, target));
            }
            if state.surveys == 0 {
                return None;
            }
            state = self.change.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Worker<'a, 'b, 'r> {
    options: &'a [Options],
    board: &'a Board,
    out: &'a Out<'b, 'r>,
    fetcher: Option<(usize, Fetcher<'a>)>,
}

impl<'a, 'b, 'r> Worker<'a, 'b, 'r> {
    fn new(options: &'a [Options], board: &'a Board, out: &'a Out<'b, 'r>) -> Worker<'a, 'b, 'r> {
        Worker { options, board, out, fetcher: None }
    }

    fn work(mut self) {
        while let Some(task) = self.board.next(self.fetcher.as_ref().map(|(account, _)| *account)) {
            let account = match &task {
                Task::Account(account) | Task::Mailbox(account, _) => *account,
            };
            let surveying = matches!(task, Task::Account(_));
            let done = catch_unwind(AssertUnwindSafe(|| self.one(task))).unwrap_or_else(|_| {
                Err(Error::plain(Kind::Internal, "a fault of ours; please report what stands above"))
            });
            match done {
                Ok(status) => self.board.with(|state| state.status.merge(status)),
                Err(error) => self.failed(account, &error),
            }
            if surveying {
                self.board.with(|state| state.surveys -= 1);
            }
            if nobody_reads(self.out) {
                break;
            }
        }
        self.leave();
    }

    fn one(&mut self, task: Task) -> Result<Status> {
        match task {
            Task::Account(account) => {
                let (targets, status) = self.connected(account)?.survey()?;
                let found = targets.into_iter().map(|target| (account, target));
                self.board.with(|state| state.mailboxes.extend(found));
                Ok(status)
            }
            Task::Mailbox(account, target) => {
                let (board, out) = (self.board, self.out);
                match self.connected(account) {
                    Ok(fetcher) => match fetcher.tolerant(&target, false, out) {
                        // Whether the account can be reached still, the next connection shows.
                        Err(error) if fetcher.is_broken_by(&error, out) => {
                            report::trouble(&error);
                            self.leave();
                            Ok(error.kind().into())
                        }
                        done => done,
                    },
                    // Another connection is one more than the server likes, as long as there is one already.
                    Err(error) if board.with(|state| state.connected.contains(&account)) => {
                        report::detail(format_args!("{error}; going on with fewer connections"));
                        board.with(|state| {
                            state.full.insert(account);
                            state.mailboxes.push_back((account, target));
                        });
                        Ok(Status::DONE)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn connected(&mut self, account: usize) -> Result<&mut Fetcher<'a>> {
        if self.fetcher.as_ref().is_none_or(|(mine, fetcher)| *mine != account || fetcher.imap.is_spent()) {
            self.leave();
            let mut fetcher = Fetcher::connect(&self.options[account])?;
            fetcher.lasting = false;
            self.board.with(|state| state.connected.push(account));
            self.fetcher = Some((account, fetcher));
        }
        match &mut self.fetcher {
            Some((_, fetcher)) => Ok(fetcher),
            None => Err(Error::plain(Kind::Internal, "no connection")),
        }
    }

    fn leave(&mut self) {
        if let Some((account, fetcher)) = self.fetcher.take() {
            self.board.with(|state| {
                if let Some(at) = state.connected.iter().position(|one| *one == account) {
                    state.connected.swap_remove(at);
                }
                state.full.remove(&account);
            });
            fetcher.finish();
        }
    }

    /// An account that cannot be reached is left alone; what is left of it would fail alike.
    fn failed(&mut self, account: usize, error: &Error) {
        let connected = self.fetcher.as_ref().is_some_and(|(_, fetcher)| !fetcher.imap.is_spent());
        if !(stop::requested() && error.kind() == Kind::Temporary) {
            report::trouble(error);
        }
        self.board.with(|state| {
            state.status.add(error.kind());
            if !connected {
                state.mailboxes.retain(|(one, _)| *one != account);
            }
        });
    }
}
