//! How fast TCP in user space is through a mesh, beside the kernel's TCP over loopback.
//!
//! `cargo bench -p vpnmesh --bench stack`: one process, one node between client and site, all
//! packets sealed twice on their way. Each figure is one stream for three seconds.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use vpnmesh::prelude::*;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut mesh = Mesh::builder()
        .node("paris", "west")
        .client("laptop", "10.9.0.1".parse()?)
        .client("phone", "fd09::1".parse()?)
        .site("office", "10.20.0.0/24".parse()?)
        .site("lab", "fd20::/64".parse()?)
        .start()?;
    let (laptop, office) = (mesh.net("laptop")?, mesh.net("office")?);
    let (phone, lab) = (mesh.net("phone")?, mesh.net("lab")?);
    Runtime::new()?.block_on(async {
        for round in 1..=ROUNDS {
            let kernel = over_loopback().await?;
            let up = through(&laptop, &office, "office", false).await?;
            let down = through(&laptop, &office, "office", true).await?;
            let v6 = through(&phone, &lab, "lab", false).await?;
            println!(
                "round {round}: kernel loopback {kernel:6.2} Gbit/s | mesh, IPv4 up {up:5.2}, down {down:5.2}, IPv6 up {v6:5.2} Gbit/s"
            );
        }
        for (what, streams) in [("1 stream", 1), ("8 streams", 8), ("64 streams", 64)] {
            let rate = together(&laptop, &office, streams).await?;
            println!("{what}: {rate:.2} Gbit/s in all");
        }
        println!("request and answer of 1 byte: {:.0?} at the median", echo(&laptop, &office).await?);
        Ok(())
    })
}

async fn over_loopback() -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (near, far) = tokio::join!(
        TcpStream::connect(listener.local_addr()?),
        listener.accept()
    );
    measure(near?, far?.0).await
}

/// One stream from the client to the site, or back.
async fn through(client: &Net, site: &Net, name: &str, back: bool) -> Outcome<f64> {
    let listener = site.listen(PORT)?;
    let to = format!("{name}:{PORT}");
    let (near, far) = tokio::join!(client.dial(&to), listener.accept());
    let (near, (far, _)) = (near?, far?);
    if back {
        measure(far, near).await
    } else {
        measure(near, far).await
    }
}

async fn together(client: &Net, site: &Net, streams: usize) -> Outcome<f64> {
    let listener = site.listen(PORT)?;
    let mut all = Vec::new();
    for _ in 0..streams {
        let to = format!("office:{PORT}");
        let (near, far) = tokio::join!(client.dial(&to), listener.accept());
        let (near, (far, _)) = (near?, far?);
        all.push(tokio::spawn(async move { measure(near, far).await.ok() }));
    }
    let mut rate = 0.0;
    for stream in all {
        rate += stream.await?.ok_or("a stream failed")?;
    }
    Ok(rate)
}

/// Gbit/s that arrive of what is written as fast as possible.
async fn measure<W, R>(mut writer: W, mut reader: R) -> Outcome<f64>
where
    W: AsyncWrite + Unpin + Send + 'static,
    R: AsyncRead + Unpin,
{
    let (end, block) = (Instant::now() + FOR, vec![7; BLOCK]);
    let sender = tokio::spawn(async move {
        while Instant::now() < end {
            writer.write_all(&block).await?;
        }
        writer.shutdown().await
    });
    let (mut buffer, mut bytes, start) = (vec![0; BLOCK], 0, Instant::now());
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        bytes += read;
    }
    let seconds = start.elapsed().as_secs_f64();
    sender.await??;
    Ok(bytes as f64 * 8.0 / seconds / 1e9)
}

/// The median time of a request of one byte and its answer.
async fn echo(client: &Net, site: &Net) -> Outcome<Duration> {
    let listener = site.listen(PORT)?;
    let to = format!("office:{PORT}");
    let (near, far) = tokio::join!(client.dial(&to), listener.accept());
    let (mut near, (mut far, _)) = (near?, far?);
    tokio::spawn(async move {
        while let Ok(byte) = far.read_u8().await {
            far.write_u8(byte).await?;
        }
        std::io::Result::Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..1000 {
        let start = Instant::now();
        near.write_u8(1).await?;
        near.read_u8().await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

const ROUNDS: usize = 3;
const FOR: Duration = Duration::from_secs(3);
const BLOCK: usize = 256 << 10;
const PORT: u16 = 5201;
