//! Ctrl-C as a clean stop: the first one asks, the second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::failure::Failure;

/// Set once SIGINT or SIGTERM arrived.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes over SIGINT and SIGTERM for the rest of the process.
    pub fn install() -> Result<Stop, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        let register = |signal| -> io::Result<()> {
            // The order matters: a signal that finds the flag set takes the default action, then sets it.
            signal_hook::flag::register_conditional_default(signal, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
            Ok(())
        };
        register(SIGINT)
            .and_then(|()| register(SIGTERM))
            .map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))?;
        Ok(Stop(flag))
    }

    /// Whether a stop was asked for.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
