//! Waiting for several things that were asked for at once.

use std::future::poll_fn;
use std::task::Poll;

/// Waits for all of them. They start at once and in their order, in the task of the request and not in ones of their
/// own: what comes later over the connection stays behind them.
pub(super) async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        for (future, result) in waiting.iter_mut().filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if waiting.iter().all(|(_, result)| result.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().map(|(_, result)| result.expect("all are done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn all_start_in_order_and_are_answered_in_order() {
        let started = RefCell::new(Vec::new());
        let one = |at: usize| {
            let started = &started;
            async move {
                started.borrow_mut().push(at);
                // The earlier ones are ready later.
                for _ in 0..3 - at {
                    futures_lite::future::yield_now().await;
                }
                at * 10
            }
        };
        let answers = futures_lite::future::block_on(all((0..3).map(one).collect()));
        assert_eq!(answers, [0, 10, 20]);
        assert_eq!(*started.borrow(), [0, 1, 2]);
        assert!(futures_lite::future::block_on(all(Vec::<std::future::Ready<()>>::new())).is_empty());
    }
}
