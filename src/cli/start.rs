//! `ringlog start`: run a broker.

use super::failure::Failure;
use super::start_args::{LogFormat, StartArgs};
use crate::broker::{Broker, Options};
use crate::config;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use tracing_subscriber::EnvFilter;

/// Runs a broker until it is told to stop.
pub fn run(args: StartArgs) -> Result<(), Failure> {
    start_logging(&args)?;
    if !args.voters.is_empty() || !args.join.is_empty() || args.peer_listen.is_some() {
        let text = "clusters of several brokers are not there yet: start it without --voters, --join and --peer-listen";
        return Err(Failure::failed(text));
    }
    let overrides: Vec<String> =
        args.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let settings =
        config::load(args.config.as_deref(), &overrides).map_err(|e| Failure::failed(e.to_string()))?;
    stop_on_panic();
    // Before any thread starts, so that each inherits the mask and a signal waits for us.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let broker = Broker::start(options(args, settings)).map_err(Failure::failed)?;
    println!("{}", broker.ready_line());
    let _ = std::io::stdout().flush();
    // A second signal finds the stop under way and changes nothing.
    signals.forever().next();
    broker.stop();
    Ok(())
}

fn options(args: StartArgs, settings: crate::machine::config::Settings) -> Options {
    let core = |core: u32| core as usize;
    Options {
        data_dir: args.data_dir,
        listen: args.listen,
        advertise: args.advertise,
        http: (args.http != "off").then_some(args.http),
        node_id: args.node_id,
        rack: args.rack,
        shards: args.shards.map(core),
        cores: args.cores.map(|list| list.0.into_iter().map(core).collect()),
        control_core: args.control_core.map(core),
        settings,
    }
}

fn start_logging(args: &StartArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|e| {
        Failure::usage(format!("--log {}: {e}; write a level such as info or debug", args.log))
    })?;
    let color =
        std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    match args.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// A violated invariant stops the process, whichever thread finds it: going on could break a promise.
fn stop_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("ringlog: fatal: a bug: {panic}");
        std::process::exit(101);
    }));
}
