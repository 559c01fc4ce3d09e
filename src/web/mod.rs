//! (to come)
pub mod outbox {
    pub fn router(_: std::path::PathBuf) -> axum::Router {
        axum::Router::new()
    }
}
pub async fn serve(
    _: tokio::net::TcpListener,
    _: crate::context::Context,
    stop: tokio_util::sync::CancellationToken,
) -> anyhow::Result<()> {
    stop.cancelled().await;
    Ok(())
}
