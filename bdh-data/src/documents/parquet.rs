//! The column `text` of parquet files, a row group at a time.

use super::error::DocumentError;
use super::file::DocumentFile;
use super::part::Part;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Name of the column with the documents. Source: nanochat.
const COLUMN: &str = "text";

/// Reader of a parquet file.
pub(super) struct ParquetReader {
    path: PathBuf,
    part: Part,
    reader: SerializedFileReader<File>,
    column: usize,
    /// Row group that is read next.
    group: usize,
}

impl fmt::Debug for ParquetReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetReader")
            .field("path", &self.path)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// Checks that a file has a readable footer and a column of texts.
pub(super) fn check_column(path: &Path) -> Result<(), DocumentError> {
    open(path).map(|_| ())
}

/// Opens a file and finds the column of texts.
fn open(path: &Path) -> Result<(SerializedFileReader<File>, usize), DocumentError> {
    let file = File::open(path).map_err(|source| DocumentError::unreadable(path, source))?;
    let reader = guarded(|| SerializedFileReader::new(file))
        .map_err(|why| DocumentError::damaged(path, "its footer", &why))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut found = Vec::new();
    for (index, column) in schema.columns().iter().enumerate() {
        let name = column.path().string();
        let is_flat = column.max_rep_level() == 0 && column.physical_type() == Type::BYTE_ARRAY;
        if name == COLUMN && is_flat {
            return Ok((reader, index));
        }
        found.push(format!("`{name}` ({:?})", column.physical_type()));
    }
    Err(DocumentError::NoTextColumn {
        path: path.to_owned(),
        found: found.join(", "),
    })
}

impl ParquetReader {
    /// Opens a file for reading from a row group on.
    pub(super) fn open(file: &DocumentFile, group: usize) -> Result<Self, DocumentError> {
        let (reader, column) = open(&file.path)?;
        Ok(Self {
            path: file.path.clone(),
            part: file.part,
            reader,
            column,
            group,
        })
    }

    /// Reads the texts of the next row group; `None` at the end of the file.
    pub(super) fn next_group(&mut self) -> Result<Option<Vec<String>>, DocumentError> {
        if self.group >= self.reader.num_row_groups() {
            return Ok(None);
        }
        let group = self.group;
        let place = format!("row group {group}");
        let values = guarded(|| read_group(&self.reader, group, self.column))
            .map_err(|why| DocumentError::damaged(&self.path, place.as_str(), &why))?;
        let first = self.first_of(group);
        let mut texts = Vec::with_capacity(values.len());
        for (index, value) in (first..).zip(values) {
            if self.part.has(index) {
                let text = String::from_utf8(value.data().to_vec());
                let text = text.map_err(|error| {
                    let why = format!("no UTF-8 ({error})");
                    DocumentError::damaged(&self.path, place.as_str(), &why)
                })?;
                texts.push(text);
            }
        }
        self.group += 1;
        Ok(Some(texts))
    }

    /// Returns the number of documents before a row group.
    fn first_of(&self, group: usize) -> u64 {
        let groups = self.reader.metadata().row_groups();
        let rows = groups[..group].iter().map(RowGroupMetaData::num_rows);
        rows.map(|rows| u64::try_from(rows).unwrap_or(0)).sum()
    }
}

/// Reads the texts of a row group.
fn read_group(
    reader: &SerializedFileReader<File>,
    group: usize,
    column: usize,
) -> Result<Vec<ByteArray>, ParquetError> {
    let group = reader.get_row_group(group)?;
    let rows = usize::try_from(group.metadata().num_rows())
        .map_err(|_| ParquetError::General("a negative number of rows".to_owned()))?;
    let ColumnReader::ByteArrayColumnReader(mut column) = group.get_column_reader(column)? else {
        return Err(ParquetError::General("no column of strings".to_owned()));
    };
    let values = read_all(&mut column, rows)?;
    if values.len() == rows {
        return Ok(values);
    }
    let nulls = rows - values.len().min(rows);
    Err(ParquetError::General(format!(
        "{nulls} of {rows} texts are null or missing"
    )))
}

/// Reads the values of a column. Nulls have none.
fn read_all(
    column: &mut ColumnReaderImpl<ByteArrayType>,
    rows: usize,
) -> Result<Vec<ByteArray>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut done = 0;
    while done < rows {
        let (records, ..) =
            column.read_records(rows - done, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        done += records;
    }
    Ok(values)
}

/// Runs a read. The crate may panic on a damaged file, and a user's file must not end the program.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the parquet reader failed on it".to_owned()),
    }
}
