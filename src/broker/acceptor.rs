//! The thread that accepts clients: glommio's own listener shares its port, which would hide that it is in use.

use crate::node::Node;
use crate::shard::Message;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
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
    let total: usize = counts.iter().sum();
    let of_peer = {
        let mut clients = node.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = clients.entry(peer.ip()).or_insert(0);
        *of_peer += 1;
        *of_peer
    };
    let shard = (0..node.shards).map(|i| (i + turn) % node.shards).min_by_key(|i| counts[*i]).unwrap_or(0);
    let config = &node.config;
    if total >= config.max_connections as usize || of_peer > config.max_connections_per_ip as usize {
        tracing::warn!("refusing {peer}: the broker has {total} connections, {} of this host", of_peer - 1);
        node.client_left(peer.ip());
        return;
    }
    node.connections[shard].fetch_add(1, Ordering::Relaxed);
    node.mailboxes[shard].send(Message::Connection(socket, peer));
}
