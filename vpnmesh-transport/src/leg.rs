//! A leg: everything between two authentic ends of one path.
//!
//! A leg has one or more channels (the newest confirmed one seals, all of them open), a meter for
//! the path, a control stream, and the answers that it owes. Client and holder, node and node, node
//! and site speak over legs; who may say what is the owners' business.

use std::net::SocketAddr;
use std::time::Duration;

use vpnmesh_core::Timestamp;
use zeroize::{Zeroize, Zeroizing};

use crate::DropReason;
use crate::channel::{Channel, ChannelId};
use crate::class::{self, Ecn, TrafficClass};
use crate::frame::{self, Frame};
use crate::inner::{Inner, Rest, Segments};
use crate::mtu::MtuSearch;
use crate::outbox::Outbox;
use crate::path::{PathFigures, PathMeter};
use crate::split::{Joiner, Splitter};
use crate::stream::ControlStream;
use crate::wire::{
    ETHERNET_PAYLOAD, HEADER, Header, Kind, OVERHEAD, SAFE_PAYLOAD, ethernet_payload,
};

/// How often an otherwise quiet leg asks whether the peer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// While packets flow.
    pub busy: Duration,
    /// While none do.
    pub idle: Duration,
}

/// One path between two authentic ends.
#[derive(Debug)]
pub struct Leg {
    remote: SocketAddr,
    path: PathMeter,
    stream: ControlStream,
    /// Oldest first; at most [`MAX_CHANNELS`].
    channels: Vec<Channel>,
    splitter: Splitter,
    joiner: Joiner,
    /// Answers for the next control datagram; at most [`MAX_URGENT`].
    urgent: Vec<Frame>,
    cadence: Cadence,
    last_data: Option<Timestamp>,
    mtu: MtuSearch,
    traffic: Traffic,
}

/// What a leg carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Inner packets sealed.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Inner packets opened.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

/// What a datagram held.
#[derive(Debug)]
pub enum Opened<'d> {
    /// An inner packet.
    Packet(&'d [u8]),
    /// An inner packet that came in two halves.
    Joined(Vec<u8>),
    /// Control frames, dealt with. `activated`: the peer confirmed an activation; `closed`: it left.
    Control {
        /// The peer confirmed an activation.
        activated: bool,
        /// The peer forgot the session.
        closed: bool,
    },
    /// The first half of an inner packet.
    Nothing,
    /// An inner packet that goes no further. The datagram itself is as good as any other.
    Dropped(DropReason),
}

impl Leg {
    /// A leg to `remote` with its first channel.
    #[must_use]
    pub fn new(remote: SocketAddr, channel: Channel, cadence: Cadence, now: Timestamp) -> Self {
        Self {
            remote,
            path: PathMeter::new(cadence.busy, now),
            stream: ControlStream::default(),
            channels: vec![channel],
            splitter: Splitter::default(),
            joiner: Joiner::default(),
            urgent: Vec::new(),
            cadence,
            last_data: None,
            mtu: MtuSearch::new(ETHERNET_PAYLOAD, ethernet_payload(remote)),
            traffic: Traffic::default(),
        }
    }

    /// Opens a datagram of the peer that came under these ECN bits.
    ///
    /// # Errors
    /// Why it is dropped; the leg lives on.
    pub fn open<'d>(
        &mut self,
        header: &Header,
        from: SocketAddr,
        ecn: Ecn,
        datagram: &'d mut [u8],
        now: Timestamp,
    ) -> Result<Opened<'d>, DropReason> {
        let newest = self.channels.len() - 1;
        let position = self
            .channels
            .iter()
            .position(|channel| channel.local_index == header.index);
        let position = position.ok_or(DropReason::UnknownIndex)?;
        let channel = &mut self.channels[position];
        let text = channel.open(header, HEADER, datagram)?;
        if position == newest && self.remote != from && channel.is_greatest(header.counter) {
            self.set_remote(from); // roaming: only the newest authentic packet moves it, no late one
        }
        self.path
            .handle_heard(matches!(header.kind, Kind::Data | Kind::Split), now);
        match header.kind {
            Kind::Data => {
                if !class::bring_in(text, ecn) {
                    return Ok(Opened::Dropped(DropReason::Congested));
                }
                self.note_received(text.len(), now);
                Ok(Opened::Packet(text))
            }
            Kind::Split => match self.joiner.join(text, ecn)? {
                Some((mut packet, ecn)) => {
                    if !class::bring_in(&mut packet, ecn) {
                        return Ok(Opened::Dropped(DropReason::Congested));
                    }
                    self.note_received(packet.len(), now);
                    Ok(Opened::Joined(packet))
                }
                None => Ok(Opened::Nothing),
            },
            Kind::Control => {
                let frames = frame::decode(text);
                text.zeroize(); // the receiver's buffer outlives it
                self.handle_frames(frames?, now)
            }
            Kind::Activate => Err(DropReason::Malformed),
        }
    }

    /// Seals an inner packet, in any of its forms, and queues the datagrams: one, or one for each
    /// segment, or two for each that does not fit one.
    ///
    /// # Errors
    /// Why the packet, or the rest of its segments, is dropped.
    pub fn send_packet(
        &mut self,
        packet: &[u8],
        out: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let class = out.marking().around(packet);
        if packet.len() + OVERHEAD <= self.mtu.found() {
            self.mtu.handle_used(packet.len() + OVERHEAD, now);
            self.seal(Kind::Data, packet, class, out)?;
            self.note_sent(1, packet.len(), now);
            return Ok(());
        }
        let inner = Inner::parse(packet).ok_or(DropReason::Malformed)?;
        match inner.rest() {
            Rest::Nothing | Rest::Checksums(_) => {
                self.mtu.handle_used(packet.len() + OVERHEAD, now);
                self.send_split(packet, class, out)?;
            }
            Rest::Segments(layers, size) => {
                let longest = inner.packet().len().min(layers.payload + size);
                self.mtu.handle_used(longest + OVERHEAD, now);
                let segments = Segments::new(inner.packet(), layers, size);
                self.send_segments(segments, class, out)?;
            }
        }
        self.note_sent(inner.count(), packet.len(), now);
        Ok(())
    }

    fn send_split(
        &mut self,
        packet: &[u8],
        class: TrafficClass,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        for half in &self.splitter.split(packet, self.mtu.found())? {
            self.seal(Kind::Split, half, class, out)?;
        }
        Ok(())
    }

    fn send_segments(
        &mut self,
        segments: Segments<'_>,
        class: TrafficClass,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let (to, max_payload, channel) = (self.remote, self.mtu.found(), self.sealing_position());
        for segment in segments {
            let len = segment.len() + OVERHEAD;
            if len > max_payload {
                let mut packet = Vec::with_capacity(segment.len());
                segment.append(&mut packet);
                self.send_split(&packet, class, out)?;
                continue;
            }
            let channel = &mut self.channels[channel];
            out.append(to, class, len, |buffer| {
                let start = buffer.len();
                buffer.extend_from_slice(&[0; HEADER]);
                segment.append(buffer);
                channel.seal(Kind::Data, start, buffer).map(drop)
            })?;
        }
        Ok(())
    }

    fn note_sent(&mut self, packets: usize, bytes: usize, now: Timestamp) {
        self.traffic.sent += packets as u64;
        self.traffic.sent_bytes += bytes as u64;
        self.path.handle_sent(true, now);
        self.note_data(now);
    }

    /// Queues a control message.
    ///
    /// # Errors
    /// [`DropReason::QueueFull`] or [`DropReason::TooLarge`].
    pub fn send_message(&mut self, message: &[u8]) -> Result<(), DropReason> {
        self.stream.send(message)
    }

    /// Puts a frame into the next control datagram.
    pub fn send_frame(&mut self, frame: Frame) {
        if self.urgent.len() < MAX_URGENT {
            self.urgent.push(frame);
        }
    }

    /// A message from the peer.
    pub fn poll_message(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.stream.poll_message()
    }

    /// Sends all control datagrams that are due.
    ///
    /// # Errors
    /// [`DropReason::KeyExhausted`]: the leg needs new keys.
    pub fn flush(&mut self, out: &mut Outbox, now: Timestamp) -> Result<(), DropReason> {
        if self.sealing().is_spent() {
            self.urgent.clear();
            return Err(DropReason::KeyExhausted);
        }
        let every = if self.is_busy(now) {
            self.cadence.busy
        } else {
            self.cadence.idle
        };
        self.path.set_ping_every(every, now);
        if let Some(token) = self.path.poll_ping(now) {
            self.urgent.push(Frame::Ping(token));
        }
        if let Some(ack) = self.stream.poll_ack() {
            self.urgent.push(Frame::StreamAck(ack));
        }
        let retry = self.path.retry_after();
        while let Some(fragment) = self.stream.poll_fragment(retry, now) {
            self.urgent.push(Frame::Fragment(fragment));
        }
        if self.urgent.is_empty() && self.path.wants_ack(now) {
            self.urgent.push(Frame::Ack);
        }
        if let Some((number, size)) = self.mtu.poll_probe(retry, now) {
            self.send_mtu_probe(number, size, out, now)?;
        }
        let frames = std::mem::take(&mut self.urgent);
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let sent = self.flush_one(rest, out, now)?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    /// When [`Leg::flush`] has something to do again.
    #[must_use]
    pub fn poll_timeout(&self) -> Timestamp {
        // Nothing is erased before the peer has shown the newest keys, so no timer waits for it.
        let retire = self.channels.iter().filter_map(|channel| channel.retire_at);
        let retire = retire.min().filter(|_| self.newest().confirmed);
        let retire = retire.unwrap_or(Timestamp::MAX);
        if self.sealing().is_spent() {
            return retire; // nothing can be sent
        }
        if !self.urgent.is_empty() {
            return Timestamp::ZERO;
        }
        self.stream
            .poll_timeout()
            .min(self.path.poll_timeout())
            .min(self.mtu.poll_timeout())
            .min(retire)
    }

    /// Adds keys; those before are erased at `retire_at`. Returns the indices erased at once.
    pub fn add_channel(&mut self, channel: Channel, retire_at: Timestamp) -> Vec<u32> {
        for old in &mut self.channels {
            old.retire_at = Some(old.retire_at.map_or(retire_at, |at| at.min(retire_at)));
        }
        self.channels.push(channel);
        let excess = self.channels.len().saturating_sub(MAX_CHANNELS);
        self.channels
            .drain(..excess)
            .map(|old| old.local_index)
            .collect()
    }

    /// Erases keys whose time has come; their indices.
    pub fn expire(&mut self, now: Timestamp) -> Vec<u32> {
        let newest = self.channels.len() - 1;
        let mut gone = Vec::new();
        let mut position = 0;
        let confirmed = self.channels[newest].confirmed;
        self.channels.retain(|channel| {
            let keep =
                position == newest || !confirmed || channel.retire_at.is_none_or(|at| at > now);
            position += 1;
            if !keep {
                gone.push(channel.local_index);
            }
            keep
        });
        gone
    }

    /// All receiver indices of this leg.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.channels.iter().map(|channel| channel.local_index)
    }

    /// The newest keys, confirmed or not.
    #[must_use]
    pub fn newest(&self) -> &Channel {
        self.channels.last().expect("a leg always has a channel")
    }

    /// The newest keys, for the owner's own sealing.
    pub fn newest_mut(&mut self) -> &mut Channel {
        self.channels
            .last_mut()
            .expect("a leg always has a channel")
    }

    /// The keys that seal: the newest whose peer has shown that it has them.
    pub fn sealing(&self) -> &Channel {
        &self.channels[self.sealing_position()]
    }

    /// Whether the newest keys will soon have sealed as many packets as they may.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.newest().is_worn()
    }

    /// The channel of that receiver index.
    pub fn channel(&self, index: u32) -> Option<&Channel> {
        self.channels
            .iter()
            .find(|channel| channel.local_index == index)
    }

    /// Refuses all packets of the peer above `last` under the keys of `id`.
    pub fn close_above(&mut self, id: ChannelId, last: u64) {
        for channel in self.channels.iter_mut().filter(|channel| channel.id == id) {
            channel.close_above(last);
        }
    }

    /// Where the peer is.
    #[must_use]
    pub const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Sends to `remote` from now on: the owner knows a new address by other authentic means.
    pub fn set_remote(&mut self, remote: SocketAddr) {
        if self.remote != remote {
            self.mtu.restart(ethernet_payload(remote));
            self.remote = remote;
        }
    }

    /// The path in figures.
    #[must_use]
    pub fn figures(&self) -> PathFigures {
        self.path.figures()
    }

    /// What was carried.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// When the peer counts as silent if nothing is heard until then.
    #[must_use]
    pub fn silent_at(&self) -> Option<Timestamp> {
        self.path.silent_at()
    }

    /// How long something of ours may stay unanswered.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.path.patience()
    }

    /// The round-trip time is about `rtt`, as other packets on this path have shown.
    pub fn expect_rtt(&mut self, rtt: Duration) {
        self.path.expect(rtt);
    }

    /// For how long packets under old keys are still taken: max(3 × RTT, 1 s), rule S3.
    #[must_use]
    pub fn grace(&self) -> Duration {
        let rtt = self.path.figures().rtt.unwrap_or_default();
        (rtt * 3).max(MIN_GRACE)
    }

    /// We were `late`: our own suspicions wait.
    pub fn handle_own_delay(&mut self, late: Duration) {
        self.path.handle_own_delay(late);
    }

    /// The owner has dealt with the peer's silence.
    pub fn note_judged(&mut self) {
        self.path.handle_judged();
    }

    /// A datagram that the owner sealed itself was sent, and a living peer answers it.
    pub fn note_question(&mut self, now: Timestamp) {
        self.path.handle_sent(true, now);
    }

    /// An authentic datagram that the owner opened itself arrived.
    pub fn note_heard(&mut self, now: Timestamp) {
        self.path.handle_heard(false, now);
    }

    /// Whether all control messages were acknowledged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.stream.is_idle()
    }

    /// The longest UDP payload that the path is known to carry, in bytes.
    #[must_use]
    pub const fn max_payload(&self) -> usize {
        self.mtu.found()
    }

    /// Whether packets flowed lately.
    #[must_use]
    pub fn is_busy(&self, now: Timestamp) -> bool {
        self.last_data.is_some_and(|at| now.since(at) < BUSY_FOR)
    }

    fn handle_frames<'d>(
        &mut self,
        frames: Vec<Frame>,
        now: Timestamp,
    ) -> Result<Opened<'d>, DropReason> {
        let (mut activated, mut closed) = (false, false);
        for frame in frames {
            match frame {
                Frame::Ack => {}
                Frame::Ping(token) => self.send_frame(Frame::Pong(token)),
                Frame::Pong(token) => self.path.handle_reply(token, now),
                Frame::Fragment(fragment) => self.stream.handle_fragment(fragment)?,
                Frame::StreamAck(ack) => self.stream.handle_ack(ack),
                Frame::Activated => activated = true,
                Frame::Close => closed = true,
                Frame::MtuProbe { number, .. } => self.send_frame(Frame::MtuReply(number)),
                Frame::MtuReply(number) => self.mtu.handle_reply(number, now),
            }
        }
        Ok(Opened::Control { activated, closed })
    }

    /// Sends as many of `frames` as fit one datagram; how many.
    fn flush_one(
        &mut self,
        frames: &[Frame],
        out: &mut Outbox,
        now: Timestamp,
    ) -> Result<usize, DropReason> {
        let mut body = Zeroizing::new(Vec::with_capacity(SAFE_PAYLOAD));
        let mut count = 0;
        for frame in frames {
            if count > 0 && body.len() + frame.encoded_len() + OVERHEAD > SAFE_PAYLOAD {
                break;
            }
            frame.encode(&mut body);
            count += 1;
        }
        self.seal(Kind::Control, &body, out.marking().bare(), out)?;
        self.path
            .handle_sent(frames[..count].iter().any(Frame::asks), now);
        Ok(count)
    }

    fn seal(
        &mut self,
        kind: Kind,
        text: &[u8],
        class: TrafficClass,
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let position = self.sealing_position();
        let channel = &mut self.channels[position];
        out.append(self.remote, class, text.len() + OVERHEAD, |buffer| {
            let start = buffer.len();
            buffer.extend_from_slice(&[0; HEADER]);
            buffer.extend_from_slice(text);
            channel.seal(kind, start, buffer)?;
            debug_assert_eq!(buffer.len() - start, text.len() + OVERHEAD);
            Ok(())
        })
    }

    /// Sends a datagram of `size` bytes that asks whether it arrived. An answer is no sign of life
    /// and silence no sign of death: only its size may be at fault.
    fn send_mtu_probe(
        &mut self,
        number: u32,
        size: usize,
        out: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let bare = Frame::MtuProbe { number, padding: 0 };
        let padding = size.saturating_sub(OVERHEAD + bare.encoded_len()) as u16;
        let mut body = Vec::with_capacity(size);
        Frame::MtuProbe { number, padding }.encode(&mut body);
        self.seal(Kind::Control, &body, out.marking().bare(), out)?;
        self.path.handle_sent(false, now);
        Ok(())
    }

    /// The newest keys that the peer has shown to have, or the newest of all.
    fn sealing_position(&self) -> usize {
        let confirmed = self.channels.iter().rposition(|channel| channel.confirmed);
        confirmed.unwrap_or(self.channels.len() - 1)
    }

    fn note_received(&mut self, bytes: usize, now: Timestamp) {
        self.traffic.received += 1;
        self.traffic.received_bytes += bytes as u64;
        self.note_data(now);
    }

    fn note_data(&mut self, now: Timestamp) {
        self.last_data = Some(now);
    }
}

/// Current, next, and one that drains on either side.
const MAX_CHANNELS: usize = 4;
const MAX_URGENT: usize = 64;
/// A leg without data for this long is idle.
const BUSY_FOR: Duration = Duration::from_secs(2);
const MIN_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use vpnmesh_core::{Secret, SessionId};

    use super::*;
    use crate::channel::{End, packet_limit};
    use crate::schedule::MoveKeys;
    use crate::{Cipher, CryptoSuite};

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn channel(end: End) -> Channel {
        let keys = MoveKeys {
            up: Secret::take(&mut [1; 32]),
            down: Secret::take(&mut [2; 32]),
        };
        let id = ChannelId {
            session: SessionId([0; 16]),
            generation: 1,
            number: 1,
            branch: 0,
        };
        let (suite, cipher) = (CryptoSuite::reproducible(), Cipher::Aes128Gcm);
        let mut channel = Channel::new(&suite, cipher, end, id, &keys, (1, 1), NOW);
        channel.confirmed = true;
        channel
    }

    fn leg(end: End) -> Leg {
        let every = Duration::from_secs(1);
        let cadence = Cadence {
            busy: every,
            idle: every,
        };
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        Leg::new(remote, channel(end), cadence, NOW)
    }

    #[test]
    fn a_spent_key_is_counted_and_sets_no_timer() {
        let (mut client, mut holder) = (leg(End::Client), leg(End::Holder));
        let limit = packet_limit(Cipher::Aes128Gcm);
        holder.newest_mut().wear(limit - 1);
        let mut out = Outbox::default();
        client.send_packet(b"inner", &mut out, NOW).unwrap();
        client.flush(&mut out, NOW).unwrap();
        while let Some(mut sent) = out.poll_transmit() {
            let header = Header::decode(&sent.payload).unwrap();
            let from = holder.remote();
            let ecn = Ecn::NotEct;
            holder
                .open(&header, from, ecn, &mut sent.payload, NOW)
                .unwrap();
        }
        assert!(holder.is_worn());
        assert_eq!(holder.flush(&mut out, NOW), Ok(()));
        let refused = Err(DropReason::KeyExhausted);
        for ahead in 0..5 {
            let now = NOW + Duration::from_secs(ahead);
            holder.send_message(b"waits").unwrap();
            assert_eq!(holder.flush(&mut out, now), refused);
            assert_eq!(holder.send_packet(b"inner", &mut out, now), refused);
            assert_eq!(holder.poll_timeout(), Timestamp::MAX);
        }
    }

    #[test]
    fn new_keys_are_due_before_either_end_is_spent() {
        let (mut client, mut holder) = (leg(End::Client), leg(End::Holder));
        assert!(!client.is_worn() && !holder.is_worn());
        holder
            .newest_mut()
            .wear(packet_limit(Cipher::Aes128Gcm) / 4 * 3);
        let mut out = Outbox::default();
        holder.send_packet(b"inner", &mut out, NOW).unwrap();
        let mut sent = out.poll_transmit().unwrap();
        let header = Header::decode(&sent.payload).unwrap();
        let from = client.remote();
        let ecn = Ecn::NotEct;
        client
            .open(&header, from, ecn, &mut sent.payload, NOW)
            .unwrap();
        assert!(client.is_worn(), "who opens sees it too");
    }
}
