//! The function behind API Gateway (REST and HTTP APIs) or a function URL: the same routes as `weir up`, over rows that others fold. Decides nothing.

use std::sync::Arc;

use infra::{log, settings, web};
use lambda_http::{Error, run};
use weir::Apart;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let access = settings::access().map_err(|error| log::cannot_begin(&error))?;
    let system = settings::open().await.map_err(|error| log::cannot_begin(&error))?;
    let operator = Arc::new(Apart::new(system, web::WAIT_MAX));
    let router = api::router_within(operator.clone(), access, web::limits());
    run(web::Routes::new(operator, router, settings::base_path())).await
}
