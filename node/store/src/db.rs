//! The two RocksDB instances and their options. The only file that tunes RocksDB.
//!
//! The log is written once, read by followers that lag, and soon purged. The state is read and overwritten for ever; histories are
//! written once and read seldom, so their larger values live in blob files, which compaction does not copy.
//!
//! Never: flushes one column family of the state without the others. Called by [`crate::Store::open`] and everything that reads.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DBRecoveryMode, FlushOptions,
    LogLevel, Options, WriteBufferManager, properties,
};

use crate::error::StoreError;
use crate::identity::DataDir;
use crate::options::StoreOptions;

pub(crate) const ENTRIES: &str = "entries";
pub(crate) const META: &str = "meta";
pub(crate) const STATE: &str = "state";
pub(crate) const HISTORY: &str = "history";
pub(crate) const GROUPS: &str = "groups";

const MIB: usize = 1024 * 1024;
/// Values of histories from this size on live in blob files.
const BLOB_BYTES_MIN: u64 = 4096;
/// Tombstones of purged stretches are gone after at most this long.
const PERIODIC_COMPACTION_SECONDS: u64 = 6 * 3600;

/// One instance. Keeps the folder's lock for as long as it is open.
pub(crate) struct Db {
    pub rocks: DB,
    name: &'static str,
    /// Dropped after the instance is closed.
    _dir: Arc<DataDir>,
}

impl Db {
    /// The log: `entries` and `meta`, with a write-ahead log that the writer syncs.
    pub fn open_log(dir: &Arc<DataDir>, options: &StoreOptions, cache: &Cache) -> Result<Self, StoreError> {
        let mut db = common(options.log_memtables_bytes);
        // Recovery ends at the first torn record: what lies behind it was never acknowledged, because it was never synced. That this
        // is so, and not a flipped bit in the middle, is checked against the position last synced (log/synced.rs).
        db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // A recycled file has its blocks already, so a sync writes no metadata.
        db.set_recycle_log_file_num(4);
        db.set_max_total_wal_size(4 * options.log_memtables_bytes as u64);
        db.set_enable_pipelined_write(false);

        let mut entries = family(cache, options.log_memtables_bytes / 2);
        entries.set_compression_per_level(&[
            DBCompressionType::None,
            DBCompressionType::Lz4,
            DBCompressionType::Lz4,
            DBCompressionType::Lz4,
        ]);
        entries.set_num_levels(4);
        entries.set_periodic_compaction_seconds(PERIODIC_COMPACTION_SECONDS);
        let meta = family(cache, 4 * MIB);
        Self::open(dir, "log", &on_one_thread(db, options)?, vec![(ENTRIES, entries), (META, meta)])
    }

    /// The state: `state`, `history` and `groups`, without a write-ahead log, flushed together or not at all.
    pub fn open_state(dir: &Arc<DataDir>, options: &StoreOptions, cache: &Cache) -> Result<Self, StoreError> {
        let mut db = common(options.state_memtables_bytes);
        db.set_atomic_flush(true);
        let each = options.state_memtables_bytes / 4;
        let families = vec![
            (STATE, state_family(cache, each)),
            (HISTORY, history_family(cache, each)),
            (GROUPS, family(cache, 4 * MIB)),
        ];
        Self::open(dir, "state", &on_one_thread(db, options)?, families)
    }

    fn open(
        dir: &Arc<DataDir>,
        name: &'static str,
        options: &Options,
        families: Vec<(&str, Options)>,
    ) -> Result<Self, StoreError> {
        let path = dir.path.join(name);
        let rocks = DB::open_cf_with_opts(options, &path, families)
            .map_err(|e| StoreError::rocks(&path.display().to_string(), e))?;
        Ok(Self { rocks, name, _dir: dir.clone() })
    }

    pub fn path(&self) -> &Path {
        self.rocks.path()
    }

    /// A column family that `open` has made.
    pub fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.rocks
            .cf_handle(name)
            .ok_or_else(|| StoreError::Misuse(format!("{} has no column family {name}", self.name)))
    }

    /// A failed call of this instance.
    pub fn failed(&self, error: rocksdb::Error) -> StoreError {
        StoreError::rocks(&self.path().display().to_string(), error)
    }

    /// Flushes all column families of the state as of one point.
    pub fn flush_state(&self) -> Result<(), StoreError> {
        let families = [self.family(STATE)?, self.family(HISTORY)?, self.family(GROUPS)?];
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.rocks.flush_cfs_opt(&families, &options).map_err(|e| self.failed(e))
    }

    /// Whether RocksDB holds writes back until its background work has caught up.
    pub fn stalled(&self) -> bool {
        let value = |property| self.rocks.property_int_value(property).ok().flatten().unwrap_or(0);
        value(properties::IS_WRITE_STOPPED) > 0 || value(properties::ACTUAL_DELAYED_WRITE_RATE) > 0
    }
}

/// Uncompressed blocks of both instances.
pub(crate) fn block_cache(options: &StoreOptions) -> Cache {
    Cache::new_lru_cache(options.block_cache_bytes)
}

/// Options of the files that a snapshot's receiver writes: what the column family itself would write.
pub(crate) fn sst_options() -> Options {
    let mut options = Options::default();
    compress(&mut options);
    options
}

fn common(memtables_bytes: usize) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_paranoid_checks(true);
    db.set_max_background_jobs(2);
    db.set_max_open_files(512);
    db.set_bytes_per_sync(MIB as u64);
    db.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(memtables_bytes, false));
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(4 * MIB);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

/// A store whose log is driven is one of many in its process, opened often, and its end may be meant as a crash: RocksDB would flush what has
/// no write-ahead log, set room aside in files that stay short, and start sixteen threads to open what is there.
fn on_one_thread(mut db: Options, options: &StoreOptions) -> Result<Options, StoreError> {
    const CHANGES: &str = "avoid_flush_during_shutdown=true;allow_fallocate=false;max_file_opening_threads=1";
    match options.log_writer.is_driven() {
        true => db.get_options_from_string(CHANGES).map_err(|e| StoreError::rocks("options of a driven store", e)),
        false => Ok(db),
    }
}

fn family(cache: &Cache, memtable_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 * 1024);
    table.set_format_version(5);
    table.set_bloom_filter(10.0, false);
    table.set_optimize_filters_for_memory(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // An index or a filter of a whole file is as large as hundreds of blocks: read for one row, it would push those out of the cache.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4096);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(memtable_bytes);
    options.set_max_write_buffer_number(4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(32 * MIB as u64);
    options.set_max_bytes_for_level_base(128 * MIB as u64);
    options
}

fn state_family(cache: &Cache, memtable_bytes: usize) -> Options {
    let mut options = family(cache, memtable_bytes);
    compress(&mut options);
    // Pending tasks and timers are queues: their deleted heads must not be walked over for long.
    options.add_compact_on_deletion_collector_factory(4096, 2048, 0.0);
    options
}

fn history_family(cache: &Cache, memtable_bytes: usize) -> Options {
    let mut options = family(cache, memtable_bytes);
    compress(&mut options);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_BYTES_MIN);
    options.set_blob_compression_type(DBCompressionType::Lz4);
    options.set_blob_file_size(64 * MIB as u64);
    options.set_enable_blob_gc(true);
    options.set_blob_gc_age_cutoff(0.25);
    options.set_blob_gc_force_threshold(0.5);
    options
}

fn compress(options: &mut Options) {
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
}
