//! What is said to a shard, by other shards, the control executor and plain threads.

use crate::machine::metadata::Image;
use crate::shard::Shard;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

/// Something to do on a shard's thread.
pub type Work = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// A message to a shard.
pub enum Message {
    /// Serve this connection.
    Connection(TcpStream, SocketAddr),
    /// The metadata are like this now. Control is told when they are taken over.
    Image(Arc<Image>),
    /// Do this on the shard's thread, at once.
    Run(Work),
    /// Read no more requests, answer what is in flight, write everything out, end.
    Stop,
}
