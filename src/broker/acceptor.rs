//! The thread that accepts clients: glommio's own listener shares its port, which would hide that it is in use.

use crate::node::Node;
use crate::shard::Message;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Accepts clients and deals them out evenly over the shards.
pub(super) fn start_acceptor(
    node: &Arc<Node>,
    listener: TcpListener,
    stopping: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, String> {
    let (node, stopping) = (Arc::clone(node), Arc::clone(stopping));
    let run = move || {
        let mut turn = 0;
        loop {
            let accepted = listener.accept();
            if stopping.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((socket, peer)) => {
                    turn += 1;
                    deal(&node, socket, peer, turn);
                }
                Err(error) => {
                    // Out of descriptors, or the client went away: wait a little, not for ever.
                    tracing::warn!("accepting a client failed: {error}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    };
    std::thread::Builder::new().name("acceptor".into()).spawn(run).map_err(|e| e.to_string())
}

fn deal(node: &Node, socket: TcpStream, peer: SocketAddr, turn: usize) {
    let counts: Vec<usize> = node.connections.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    if let Err((total, of_peer)) = node.client_comes(peer.ip()) {
        tracing::warn!("refusing {peer}: the broker has {total} connections, {of_peer} of this host");
        return;
    }
    let shard = (0..node.shards).map(|i| (i + turn) % node.shards).min_by_key(|i| counts[*i]).unwrap_or(0);
    node.connections[shard].fetch_add(1, Ordering::Relaxed);
    node.mailboxes[shard].send(Message::Connection(socket, peer));
}
