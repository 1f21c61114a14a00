//! The server from the outside: raw bytes over TCP and over a Unix socket against a whole daemon in
//! this process, with a real store, a real pool and a clock that stands still.

mod certificates;
mod daemon;
mod dev;
mod wire;

mod admin;
mod batch;
mod bind;
mod bounds;
mod drain;
mod ends;
mod limits;
mod process;
mod reload;
mod routes;
mod sessions;
mod shares;
mod signatures;
mod sockets;
mod strangers;
mod tls;
mod walk;
mod web_identity;
