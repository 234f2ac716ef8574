//! The branches that a node was given, and those that it made itself.
//!
//! Each is named by session, generation and *giver*, so that nobody can put one in another's place.
//! A branch has a *speaker*: the node whose word about its session counts, the giver at first, then
//! whoever the client has activated since. The sums for digests are kept with the table.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use vpnmesh_core::{NodeId, Secret, SessionId, Timestamp};

use super::sums::Sums;
use crate::handshake::Incarnation;
use crate::record::{SessionRecord, bucket_of};

/// Names a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BranchKey {
    pub(super) session: SessionId,
    pub(super) generation: u32,
    /// Who made it: a primary, or we.
    pub(super) giver: NodeId,
}

/// Our own branch of a generation, as primary or as shadow.
#[derive(Debug)]
pub(super) struct Branch {
    /// Its first holder is the speaker; there always is one.
    pub(super) record: SessionRecord,
    pub(super) number: u8,
    pub(super) secret: Secret<32>,
    /// What our static key and the client's share, once an activation came: whoever makes
    /// activations up costs us one Diffie-Hellman operation for each branch, not for each datagram.
    pub(super) shared: OnceCell<Secret<32>>,
    /// The first receiver index.
    pub(super) base: u32,
    /// The life in which the speaker last spoke of it.
    pub(super) given_in: Incarnation,
    /// When that was; a digest that matched since is noted with the [`Group`].
    pub(super) spoken_of: Timestamp,
    /// Whether the client has activated the generation, as far as we know: digests speak of those.
    pub(super) in_force: bool,
    /// When it is looked at again, to be forgotten if nobody spoke of it.
    pub(super) ends: Timestamp,
}

/// All branches of one node.
#[derive(Debug, Default)]
pub(super) struct Branches {
    bounds: Bounds,
    /// At most `bounds.own` of our own and `bounds.given` of others.
    table: BTreeMap<BranchKey, Branch>,
    /// By first receiver index.
    bases: HashMap<u32, BranchKey>,
    /// How many each node gave.
    given: BTreeMap<NodeId, usize>,
    /// In force, by speaker and its life. As many as have branches.
    groups: BTreeMap<(NodeId, Incarnation), Group>,
    /// The members of the groups by bucket.
    listed: BTreeSet<(NodeId, Incarnation, usize, BranchKey)>,
    /// By [`Branch::ends`].
    ends: BTreeSet<(Timestamp, BranchKey)>,
}

/// How many branches there may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Our own: a session has one, and one more while its next generation begins.
    own: usize,
    /// What other nodes gave. Some 600 bytes each.
    given: usize,
    /// Of these, what is kept for nodes that gave little.
    reserved: usize,
    /// What one node may give: more than 100 000 sessions with their next generations.
    of_one: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            own: 1 << 20,
            given: 1 << 20,
            reserved: 1 << 18,
            of_one: 1 << 18,
        }
    }
}

/// What one speaker keeps here.
#[derive(Debug)]
struct Group {
    sums: Sums,
    /// When its digest last matched.
    spoken_of: Timestamp,
}

impl Branch {
    /// The node whose word about the session counts.
    pub(super) fn speaker(&self) -> Option<NodeId> {
        self.record.holders.first().copied()
    }

    /// `node` speaks from now on.
    pub(super) fn set_speaker(&mut self, node: NodeId, life: Incarnation) {
        self.record.holders.retain(|holder| *holder != node);
        self.record.holders.insert(0, node);
        self.given_in = life;
    }
}

impl Branches {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(feature = "testing")]
    pub(super) fn bases(&self) -> usize {
        self.bases.len()
    }

    pub(super) fn get(&self, key: &BranchKey) -> Option<&Branch> {
        self.table.get(key)
    }

    /// The branch whose first index this is.
    pub(super) fn at_base(&self, base: u32) -> Option<BranchKey> {
        self.bases.get(&base).copied()
    }

    /// All branches of a session, the lowest generation first.
    pub(super) fn of(
        &self,
        session: SessionId,
    ) -> impl DoubleEndedIterator<Item = (&BranchKey, &Branch)> {
        let end = |generation, giver| BranchKey {
            session,
            generation,
            giver: NodeId(giver),
        };
        self.table.range(end(0, 0)..=end(u32::MAX, u64::MAX))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Branch> {
        self.table.values()
    }

    /// Whether `giver`, one of `nodes`, may give one more. Nobody takes all: the last quarter is
    /// shared out evenly among those who have little.
    pub(super) fn has_room(&self, giver: NodeId, me: NodeId, nodes: usize) -> bool {
        let count = |node: NodeId| self.given.get(&node).copied().unwrap_or(0);
        let (own, its, bounds) = (count(me), count(giver), &self.bounds);
        if giver == me {
            return own < bounds.own;
        }
        let all = self.table.len() - own;
        let has_little = its < bounds.reserved / nodes.max(1);
        let kept = if has_little { 0 } else { bounds.reserved };
        its < bounds.of_one && all < bounds.given - kept
    }

    /// Makes room for one more generation of a session by the same giver: its oldest one that the
    /// client has not activated goes. Whether there is room.
    pub(super) fn make_room(&mut self, session: SessionId, giver: NodeId) -> bool {
        let theirs = self.of(session).filter(|(key, _)| key.giver == giver);
        let mut theirs: Vec<_> = theirs.map(|(key, b)| (b.in_force, *key)).collect();
        if theirs.len() < MAX_GENERATIONS {
            return true;
        }
        theirs.sort_unstable();
        match theirs.first() {
            Some((false, key)) => self.remove(&key.clone()).is_some(),
            Some((true, _)) | None => false,
        }
    }

    /// Puts a branch in.
    pub(super) fn insert(&mut self, key: BranchKey, branch: Branch) {
        self.remove(&key);
        *self.given.entry(key.giver).or_default() += 1;
        self.bases.insert(branch.base, key);
        self.ends.insert((branch.ends, key));
        self.count(&key, &branch);
        self.table.insert(key, branch);
    }

    /// Changes a branch. Nothing may change it in another way: the sums follow here.
    pub(super) fn change(&mut self, key: &BranchKey, change: impl FnOnce(&mut Branch)) {
        let Some(mut branch) = self.table.remove(key) else {
            return;
        };
        self.uncount(key, &branch);
        change(&mut branch);
        self.count(key, &branch);
        self.table.insert(*key, branch);
    }

    /// Erases a branch.
    pub(super) fn remove(&mut self, key: &BranchKey) -> Option<Branch> {
        let branch = self.table.remove(key)?;
        self.uncount(key, &branch);
        self.bases.remove(&branch.base);
        self.ends.remove(&(branch.ends, *key));
        if let Some(count) = self.given.get_mut(&key.giver) {
            *count -= 1;
            if *count == 0 {
                self.given.remove(&key.giver);
            }
        }
        Some(branch)
    }

    /// Erases all branches of a session for which `gone` holds.
    pub(super) fn forget(
        &mut self,
        session: SessionId,
        gone: impl Fn(&BranchKey, &Branch) -> bool,
    ) {
        let old = self.of(session).filter(|(key, branch)| gone(key, branch));
        let old: Vec<BranchKey> = old.map(|(key, _)| *key).collect();
        for key in old {
            self.remove(&key);
        }
    }

    /// Erases those for which `gone` holds. Looks at all.
    pub(super) fn forget_all(&mut self, gone: impl Fn(&Branch) -> bool) {
        let old = self.table.iter().filter(|(_, branch)| gone(branch));
        let old: Vec<BranchKey> = old.map(|(key, _)| *key).collect();
        for key in old {
            self.remove(&key);
        }
    }

    /// Branches that nobody has spoken of for `idle_for`. Each is looked at once in that time.
    pub(super) fn poll_orphans(&mut self, idle_for: Duration, now: Timestamp) -> Vec<BranchKey> {
        let mut orphans = Vec::new();
        while let Some((at, key)) = self.ends.first().copied()
            && at <= now
        {
            self.ends.remove(&(at, key));
            let Some(branch) = self.table.get(&key) else {
                continue;
            };
            let end = self.last_spoken_of(branch) + idle_for;
            if end <= now {
                orphans.push(key);
            }
            let again = end.max(now + idle_for / 4); // it may be kept nevertheless
            self.ends.insert((again, key));
            if let Some(branch) = self.table.get_mut(&key) {
                branch.ends = again;
            }
        }
        orphans
    }

    fn last_spoken_of(&self, branch: &Branch) -> Timestamp {
        let group = Self::group_of(branch).and_then(|group| self.groups.get(&group));
        group.map_or(branch.spoken_of, |group| {
            group.spoken_of.max(branch.spoken_of)
        })
    }

    /// The sums over what `speaker` gave or confirmed in this life.
    pub(super) fn sums(&self, speaker: NodeId, life: Incarnation) -> Option<&Sums> {
        Some(&self.groups.get(&(speaker, life))?.sums)
    }

    /// The digest of `speaker` matched.
    pub(super) fn note_match(&mut self, speaker: NodeId, life: Incarnation, now: Timestamp) {
        if let Some(group) = self.groups.get_mut(&(speaker, life)) {
            group.spoken_of = now;
        }
    }

    /// What a bucket of `speaker` holds: session, generation and version.
    pub(super) fn bucket(
        &self,
        speaker: NodeId,
        life: Incarnation,
        bucket: usize,
    ) -> impl Iterator<Item = (SessionId, u32, u64)> {
        let end = |session, generation, giver| {
            let session = SessionId(session);
            let giver = NodeId(giver);
            let key = BranchKey {
                session,
                generation,
                giver,
            };
            (speaker, life, bucket, key)
        };
        let range = end([0; 16], 0, 0)..=end([u8::MAX; 16], u32::MAX, u64::MAX);
        let keys = self.listed.range(range).map(|(.., key)| key);
        keys.filter_map(|key| {
            let record = &self.table.get(key)?.record;
            Some((record.session, record.generation, record.version))
        })
    }

    /// The sums as they are and as they would be if they were added up again.
    #[cfg(debug_assertions)]
    pub(super) fn audit(&self, speaker: NodeId, life: Incarnation) -> (Sums, Sums) {
        let theirs = self.values().filter(|branch| {
            branch.in_force && branch.speaker() == Some(speaker) && branch.given_in == life
        });
        let counted = theirs.map(|branch| &branch.record).collect();
        let kept = self.sums(speaker, life).cloned();
        (kept.unwrap_or_else(Sums::new), counted)
    }

    fn group_of(branch: &Branch) -> Option<(NodeId, Incarnation)> {
        let speaker = branch.speaker().filter(|_| branch.in_force)?;
        Some((speaker, branch.given_in))
    }

    fn count(&mut self, key: &BranchKey, branch: &Branch) {
        let Some((speaker, life)) = Self::group_of(branch) else {
            return;
        };
        let group = self.groups.entry((speaker, life)).or_insert_with(|| Group {
            sums: Sums::new(),
            spoken_of: branch.spoken_of,
        });
        group.sums.add(key.session, branch.record.digest());
        self.listed
            .insert((speaker, life, bucket_of(key.session), *key));
    }

    fn uncount(&mut self, key: &BranchKey, branch: &Branch) {
        let Some((speaker, life)) = Self::group_of(branch) else {
            return;
        };
        self.listed
            .remove(&(speaker, life, bucket_of(key.session), *key));
        if let Some(group) = self.groups.get_mut(&(speaker, life)) {
            group.sums.remove(key.session, branch.record.digest());
            if group.sums.is_empty() {
                self.groups.remove(&(speaker, life));
            }
        }
    }
}

/// One in force, one being made, and two that the client did not take up.
const MAX_GENERATIONS: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::rig::{self, ME, record};
    use super::*;

    fn branch(client: u64, generation: u32, giver: u64, in_force: bool) -> (BranchKey, Branch) {
        let record = record(client, generation, 1, &[giver, ME.0]);
        let branch = Branch {
            number: 1,
            secret: Secret::take(&mut [1; 32]),
            shared: OnceCell::new(),
            base: (client as u32) << 16 | generation << 8 | giver as u32,
            given_in: Incarnation::default(),
            spoken_of: rig::START,
            in_force,
            ends: rig::START + IDLE,
            record,
        };
        (rig::key(&branch.record), branch)
    }

    const IDLE: Duration = Duration::from_secs(180);

    fn small() -> Branches {
        let bounds = Bounds {
            own: 5,
            given: 40,
            reserved: 20,
            of_one: 30,
        };
        Branches {
            bounds,
            ..Branches::default()
        }
    }

    #[test]
    fn nodes_that_take_all_leave_room_for_the_others() {
        let mut branches = small();
        for giver in [2, 3, 4] {
            for client in 0..100 {
                if branches.has_room(NodeId(giver), ME, 5) {
                    let (key, branch) = branch(client, 1, giver, true);
                    branches.insert(key, branch);
                }
            }
        }
        assert!(branches.len() <= 40);
        assert!(!branches.has_room(NodeId(2), ME, 5));
        assert!(branches.has_room(NodeId(5), ME, 5));
        assert!(branches.has_room(ME, ME, 5));
    }

    #[test]
    fn one_giver_s_generations_of_a_session_replace_each_other() {
        let mut branches = Branches::default();
        for generation in 1..20 {
            let (key, branch) = branch(11, generation, 2, generation == 1);
            assert!(branches.make_room(key.session, key.giver));
            branches.insert(key, branch);
        }
        let kept: Vec<u32> = branches
            .of(rig::session(11))
            .map(|(key, _)| key.generation)
            .collect();
        assert_eq!(kept, [1, 17, 18, 19]);
        assert_eq!(branches.bases.len(), 4);
        assert_eq!(branches.ends.len(), 4);
    }

    #[test]
    fn orphans_are_found_once_nobody_speaks_of_them() {
        let mut branches = Branches::default();
        for (client, in_force) in [(11, true), (12, false)] {
            let (key, branch) = branch(client, 1, 2, in_force);
            branches.insert(key, branch);
        }
        let later = rig::START + IDLE / 2;
        branches.note_match(NodeId(2), Incarnation::default(), later);
        let (never_used, end) = (branch(12, 1, 2, false).0, rig::START + IDLE);
        assert_eq!(branches.poll_orphans(IDLE, end), [never_used]);
        branches.remove(&never_used);
        assert_eq!(branches.poll_orphans(IDLE, end + IDLE / 4), []);
        let used = branch(11, 1, 2, true).0;
        assert_eq!(branches.poll_orphans(IDLE, later + IDLE), [used]);
    }
}
