//! Faults on purpose: the proofs kill or delay the pager at every step of its work.
//!
//! `MEMTIDE_INJECT` in a program's environment names a step and what happens there, every so many
//! times: `kill@copied/100` makes the pager panic at every hundredth copied block,
//! `delay@protected/10:5` makes it sleep for 5 ms at every tenth protected one. Several are
//! separated by commas. Unset, a step costs one comparison.

use std::{str::FromStr, time::Duration};

/// A place where something can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A destination has been mapped and populated.
    Populated,
    /// A source has been write-protected.
    Protected,
    /// Its content has been copied.
    Copied,
    /// The destination has taken its place.
    Swapped,
    /// Waiting threads have been woken.
    Woken,
    /// The new mapping is registered and in the table.
    Entered,
    /// A first touch has been taken up.
    Touched,
    /// A block has been frozen for a fork.
    Frozen,
    /// A block has been thawed.
    Thawed,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "populated" => Self::Populated,
            "protected" => Self::Protected,
            "copied" => Self::Copied,
            "swapped" => Self::Swapped,
            "woken" => Self::Woken,
            "entered" => Self::Entered,
            "touched" => Self::Touched,
            "frozen" => Self::Frozen,
            "thawed" => Self::Thawed,
            other => return Err(format!("{other:?} is not a step of the pager")),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Kill,
    Delay(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fault {
    action: Action,
    step: Step,
    every: u32,
    passed: u32,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected ACTION@STEP/EVERY[:MILLISECONDS]");
        let (action, rest) = text.split_once('@').ok_or_else(wrong)?;
        let (step, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (every, delay) = rest.split_once(':').unwrap_or((rest, "1"));
        let every: u32 = every.parse().map_err(|_| wrong())?;
        let delay: u64 = delay.parse().map_err(|_| wrong())?;
        let action = match action {
            "kill" => Action::Kill,
            "delay" => Action::Delay(Duration::from_millis(delay)),
            _ => return Err(wrong()),
        };
        if every == 0 {
            return Err(wrong());
        }
        Ok(Self { action, step: step.parse()?, every, passed: 0 })
    }
}

/// What is to go wrong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Injector(Vec<Fault>);

impl FromStr for Injector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Injector {
    /// What the environment asks for; nonsense is an error.
    ///
    /// # Errors
    /// What is wrong with `MEMTIDE_INJECT`.
    pub fn from_environment() -> Result<Self, String> {
        std::env::var("MEMTIDE_INJECT").map_or_else(|_| Ok(Self::default()), |text| text.parse())
    }

    /// Passes a step.
    ///
    /// # Panics
    /// When asked to.
    pub fn pass(&mut self, step: Step) {
        for fault in &mut self.0 {
            if fault.step != step {
                continue;
            }
            fault.passed += 1;
            if !fault.passed.is_multiple_of(fault.every) {
                continue;
            }
            match fault.action {
                Action::Kill => panic!("injected at {step:?}"),
                Action::Delay(time) => std::thread::sleep(time),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let injector: Injector = "kill@copied/100,delay@protected/10:5".parse().unwrap();
        assert_eq!(injector.0.len(), 2);
        assert_eq!(injector.0[1].action, Action::Delay(Duration::from_millis(5)));
        for wrong in ["kill", "kill@copied", "kill@nowhere/1", "kill@copied/0", "maim@copied/1"] {
            assert!(wrong.parse::<Injector>().is_err(), "{wrong}");
        }
    }

    #[test]
    #[should_panic(expected = "injected at Copied")]
    fn every_second_time() {
        let mut injector: Injector = "kill@copied/2".parse().unwrap();
        injector.pass(Step::Copied);
        injector.pass(Step::Swapped);
        injector.pass(Step::Copied);
    }
}
