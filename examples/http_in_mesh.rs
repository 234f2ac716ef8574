//! A web server and a web client that meet inside the mesh.
//!
//! You will see an axum server at the site `office` answer a hyper client on `laptop`, over TCP in
//! user space: no TUN device, no root. Then the node between them is killed, and the same connection
//! goes on over its shadow.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use vpnmesh::prelude::*;
use vpnmesh::transport::io::{TcpListener, TcpStream};

/// A port of the mesh, as axum takes it.
struct MeshListener(TcpListener);

impl axum::serve::Listener for MeshListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.0.accept().await {
            Ok(accepted) => accepted,
            Err(_) => std::future::pending().await, // the member has stopped
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut mesh = Mesh::builder()
        .node("paris", "west")
        .node("oslo", "north")
        .client("laptop", "10.9.0.1".parse()?)
        .site("office", "10.20.0.0/24".parse()?)
        .start()?;
    let (laptop, office) = (mesh.net("laptop")?, mesh.net("office")?);
    tokio::runtime::Runtime::new()?.block_on(async {
        tokio::spawn(serve(office)?);
        let mut http = connect(&laptop).await?;
        println!("before: {}", ask(&mut http).await?);

        let holder = protected_holder(&mesh).await.ok_or("no shadow came")?;
        mesh.kill(&holder);
        println!("{holder} is dead");
        let asked = Instant::now();
        println!("after:  {}", ask(&mut http).await?);
        println!(
            "the same connection answered again after {:.1?}",
            asked.elapsed()
        );
        Ok(())
    })
}

/// The server, which listens when this returns.
fn serve(office: Net) -> io::Result<impl Future<Output = ()>> {
    let hello = |Path(name): Path<String>| async move { format!("hello {name}, this is office") };
    let router = Router::new().route("/hello/{name}", get(hello));
    let listener = MeshListener(office.listen(80)?);
    Ok(async {
        let _ = axum::serve(listener, router).await; // it never ends
    })
}

async fn connect(laptop: &Net) -> Result<SendRequest<Empty<Bytes>>, Box<dyn Error>> {
    let stream = laptop.dial("office:80").await?;
    println!(
        "{} is connected to {}",
        stream.local_addr(),
        stream.peer_addr()
    );
    let (http, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(http)
}

async fn ask(http: &mut SendRequest<Empty<Bytes>>) -> Result<String, Box<dyn Error>> {
    let request = Request::get("/hello/laptop").header("host", "office");
    let answer = http.send_request(request.body(Empty::new())?).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

/// The node that carries the client's session, once another one could take over.
async fn protected_holder(mesh: &Mesh) -> Option<String> {
    let client = mesh.client("laptop")?;
    for _ in 0..1000 {
        let session = client.report()?.what.session;
        if let Some(holder) = session.active.filter(|_| session.roster.len() > 1) {
            return Some(client.names().node(holder));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}
