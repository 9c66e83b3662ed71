//! Documents are read from parquet, JSONL and text, and what cannot be read is named.

use crate::homes::Home;
use bdh_data::{DocumentKind, Documents, GroupPosition, Split};
use flate2::write::GzEncoder;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Returns all documents, one group after another.
fn texts(documents: &Documents) -> Vec<String> {
    let groups = documents.groups_from(GroupPosition::default());
    groups
        .flat_map(|group| group.expect("a group").texts)
        .collect()
}

fn opened(path: &Path) -> Documents {
    Documents::open(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the error of opening or reading.
fn fault(path: &Path) -> Option<String> {
    let documents = match Documents::open(path) {
        Ok(documents) => documents,
        Err(error) => return Some(error.to_string()),
    };
    let mut groups = documents.groups_from(GroupPosition::default());
    groups.find_map(|group| group.err().map(|error| error.to_string()))
}

/// Writes a parquet file with a column of texts, in row groups.
fn write_parquet(path: &Path, schema: &str, groups: &[&[Option<&str>]], compression: Compression) {
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = WriterProperties::builder().set_compression(compression);
    let file = File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))
        .expect("a parquet file");
    for group in groups {
        let mut rows = writer.next_row_group().expect("a row group");
        while let Some(mut column) = rows.next_column().expect("a column") {
            let values: Vec<ByteArray> =
                group.iter().flatten().map(|text| (*text).into()).collect();
            let levels: Vec<i16> = group.iter().map(|text| i16::from(text.is_some())).collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&levels), None)
                .expect("values");
            column.close().expect("closed");
        }
        rows.close().expect("closed");
    }
    writer.close().expect("closed");
}

const TEXT: &str = "message schema { optional binary text (UTF8); }";

#[test]
fn parquet_is_read_with_every_codec_and_row_group() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let dir = scratch();
        let path = dir.path().join("a.parquet");
        write_parquet(
            &path,
            TEXT,
            &[&[Some("one"), Some("")], &[Some("zwölf 🌍")]],
            codec,
        );
        let documents = opened(&path);
        assert_eq!(documents.kind(), DocumentKind::Parquet);
        assert_eq!(texts(&documents), ["one", "", "zwölf 🌍"]);
        let second = GroupPosition { file: 0, group: 1 };
        assert_eq!(
            documents.group(second).expect("read"),
            Some(vec!["zwölf 🌍".to_owned()])
        );
        let third = GroupPosition { file: 0, group: 2 };
        assert_eq!(documents.group(third).expect("read"), None);
    }
}

#[test]
fn home_of_nanochat_is_read_and_its_last_file_is_for_validation() {
    for home in Home::all() {
        let documents = opened(&home.data());
        let names = documents.file_names();
        assert!(names.len() > 1 && names.is_sorted());
        let Split { train, val } = documents.split().expect("several files");
        assert_eq!(val.file_names(), names[names.len() - 1..]);
        assert_eq!(train.file_names(), names[..names.len() - 1]);
        let groups = train.groups_from(GroupPosition::default());
        let groups: Vec<_> = groups.map(|group| group.expect("a group")).collect();
        assert!(groups.iter().all(|group| group.texts.len() <= 48));
        for group in &groups {
            assert_eq!(
                train.group(group.at).expect("read").as_ref(),
                Some(&group.texts)
            );
        }
    }
}

#[test]
fn parquet_without_texts_or_with_nulls_is_refused_with_the_reason() {
    let dir = scratch();
    let path = dir.path().join("a.parquet");
    let other = "message schema { optional binary content (UTF8); }";
    write_parquet(&path, other, &[&[Some("one")]], Compression::SNAPPY);
    let error = fault(&path).expect("no column");
    assert!(
        error.contains("no column `text`") && error.contains("`content`"),
        "{error}"
    );
    write_parquet(
        &path,
        TEXT,
        &[&[Some("one")], &[Some("two"), None]],
        Compression::SNAPPY,
    );
    let error = fault(&path).expect("a null");
    assert!(
        error.contains("row group 1") && error.contains("1 of 2 texts are null"),
        "{error}"
    );
}

#[test]
fn damaged_parquet_is_an_error_wherever_it_is_cut() {
    let dir = scratch();
    let path = dir.path().join("a.parquet");
    write_parquet(
        &path,
        TEXT,
        &[&[Some("one"), Some("two")]],
        Compression::SNAPPY,
    );
    let whole = fs::read(&path).expect("a file");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(fault(&path).is_some(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn flipped_bytes_of_parquet_never_end_the_program() {
    let dir = scratch();
    let path = dir.path().join("a.parquet");
    write_parquet(
        &path,
        TEXT,
        &[&[Some("one"), Some("two")]],
        Compression::SNAPPY,
    );
    let whole = fs::read(&path).expect("a file");
    for place in 0..whole.len() {
        for bits in [0x01, 0x80, 0xFF] {
            let mut damaged = whole.clone();
            damaged[place] ^= bits;
            fs::write(&path, damaged).expect("written");
            let _ = fault(&path);
        }
    }
}

/// Writes bytes plain, by gzip and by zstd, and returns the names.
fn write_compressed(dir: &Path, name: &str, bytes: &[u8]) -> [String; 3] {
    let names = [name.to_owned(), format!("{name}.gz"), format!("{name}.zst")];
    fs::write(dir.join(&names[0]), bytes).expect("written");
    let file = File::create(dir.join(&names[1])).expect("a file");
    let mut gzip = GzEncoder::new(file, flate2::Compression::default());
    gzip.write_all(bytes)
        .and_then(|()| gzip.finish().map(drop))
        .expect("written");
    let zstd = zstd::encode_all(bytes, 1).expect("compressed");
    fs::write(dir.join(&names[2]), zstd).expect("written");
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn json_lines_come_back_from_every_compression(all in prop::collection::vec(any::<String>(), 1..40)) {
        let dir = scratch();
        let lines: Vec<_> = all.iter().map(|text| json!({ "id": 1, "text": text }).to_string()).collect();
        let lines = lines.join("\n\n");
        for name in write_compressed(dir.path(), "a.jsonl", lines.as_bytes()) {
            prop_assert_eq!(&texts(&opened(&dir.path().join(name))), &all);
        }
    }
}

#[test]
fn json_lines_are_read_in_groups_and_every_tenth_is_for_validation() {
    let dir = scratch();
    let path = dir.path().join("a.jsonl");
    let lines: Vec<_> = (0..2100)
        .map(|index| format!("{{\"text\": \"{index}\"}}"))
        .collect();
    fs::write(&path, lines.join("\n")).expect("written");
    let documents = opened(&path);
    let groups: Vec<_> = documents.groups_from(GroupPosition::default()).collect();
    let sizes: Vec<_> = groups
        .iter()
        .map(|group| group.as_ref().expect("read").texts.len())
        .collect();
    assert_eq!(sizes, [1024, 1024, 52]);
    let Split { train, val } = documents.split().expect("one file");
    assert_eq!((texts(&train).len(), texts(&val).len()), (1890, 210));
    assert_eq!(texts(&val)[..2], ["9", "19"]);
    for split in [&train, &val] {
        for group in split.groups_from(GroupPosition::default()) {
            let group = group.expect("read");
            assert_eq!(split.group(group.at).expect("read"), Some(group.texts));
        }
    }
}

#[test]
fn line_without_a_text_is_refused_with_its_number() {
    let dir = scratch();
    let path = dir.path().join("a.jsonl");
    for line in [
        "{\"text\": 5}",
        "[1]",
        "[\"an array\"]",
        "{\"tex\": \"a\"}",
        "hello",
        "{\"text\": null}",
    ] {
        fs::write(&path, format!("{{\"text\": \"fine\"}}\n\n{line}\n")).expect("written");
        let error = fault(&path).expect("no text");
        assert!(
            error.starts_with("line 3 of ") && error.contains("no object with a text"),
            "{error}"
        );
    }
}

#[test]
fn text_files_are_split_by_their_names_and_a_single_one_by_its_length() {
    let dir = scratch();
    for index in 0..40 {
        fs::write(
            dir.path().join(format!("{index}.txt")),
            format!("document {index}"),
        )
        .expect("written");
    }
    let Split { train, val } = opened(dir.path()).split().expect("several");
    assert!(!texts(&train).is_empty() && !texts(&val).is_empty());
    assert_eq!(texts(&train).len() + texts(&val).len(), 40);

    let path = dir.path().join("0.txt");
    fs::write(&path, "0123456789".repeat(2)).expect("written");
    let Split { train, val } = opened(&path).split().expect("one file");
    assert_eq!(
        (texts(&train).concat().len(), texts(&val).concat().as_str()),
        (18, "89")
    );
    for name in write_compressed(dir.path(), "packed.txt", "größe".as_bytes()) {
        assert_eq!(texts(&opened(&dir.path().join(name))), ["größe"]);
    }
}

#[test]
fn files_that_are_not_read_are_named_with_the_reason_and_strictly_refused() {
    let dir = scratch();
    let write =
        |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    write("a.txt", b"text");
    write("b.txt", b"text");
    assert!(opened(dir.path()).strict().is_ok());
    write("empty.txt", b"");
    write("latin.txt", b"caf\xe9");
    write("wide.txt", b"\xff\xfea\0b\0");
    write(".hidden", b"\xff");
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", dir.path().join("link.txt")).expect("a link");
    let documents = opened(dir.path());
    assert_eq!(documents.file_names(), ["a.txt", "b.txt"]);
    let left_out = documents.left_out().to_string();
    for words in ["\"empty.txt\" (empty)", "Latin-1", "UTF-16"] {
        assert!(left_out.contains(words), "{left_out}");
    }
    #[cfg(unix)]
    assert!(
        left_out.contains("\"link.txt\" (a broken link)"),
        "{left_out}"
    );
    assert!(!left_out.contains("hidden"), "{left_out}");
    let error = documents
        .strict()
        .expect_err("files are left out")
        .to_string();
    assert!(
        error.contains("latin.txt") && error.contains("cannot be read as documents"),
        "{error}"
    );
}

#[test]
fn text_beside_parquet_files_is_left_out() {
    let dir = scratch();
    for name in ["a.parquet", "b.parquet"] {
        let path = dir.path().join(name);
        write_parquet(&path, TEXT, &[&[Some(name)]], Compression::SNAPPY);
    }
    fs::write(dir.path().join("README.md"), "a description").expect("written");
    fs::write(dir.path().join("z.jsonl"), "{\"text\": \"z\"}\n").expect("written");
    let documents = opened(dir.path());
    let left_out = documents.left_out().to_string();
    assert!(
        left_out.contains("README.md") && left_out.contains("beside parquet files"),
        "{left_out}"
    );
    let Split { val, .. } = documents.split().expect("two files");
    assert_eq!(texts(&val), ["b.parquet"]);
}

#[test]
fn unfinished_download_beside_parquet_files_is_left_out() {
    let dir = scratch();
    let path = dir.path().join("a.parquet");
    write_parquet(&path, TEXT, &[&[Some("a")]], Compression::SNAPPY);
    let whole = fs::read(&path).expect("a file");
    fs::write(dir.path().join("b.parquet.tmp"), &whole[..whole.len() / 2]).expect("written");
    let documents = opened(dir.path());
    assert_eq!(documents.file_names(), ["a.parquet"]);
    let left_out = documents.left_out().to_string();
    assert!(
        left_out.contains("\"b.parquet.tmp\" (an unfinished download)"),
        "{left_out}"
    );
}

#[test]
fn empty_parquet_file_in_a_directory_is_refused() {
    let dir = scratch();
    let path = dir.path().join("a.parquet");
    write_parquet(&path, TEXT, &[&[Some("a")]], Compression::SNAPPY);
    fs::write(dir.path().join("b.parquet"), "").expect("written");
    let error = fault(dir.path()).expect("a failed download");
    assert!(error.contains("b.parquet"), "{error}");
}

#[test]
fn content_that_turns_out_to_be_no_text_is_left_out() {
    let dir = scratch();
    fs::write(dir.path().join("a.txt"), "text").expect("written");
    let late = [&b"text ".repeat(20_000)[..], b"caf\xe9"].concat();
    fs::write(dir.path().join("late.txt"), late).expect("written");
    write_compressed(dir.path(), "latin.txt", b"caf\xe9");
    write_compressed(dir.path(), "archive.tar", b"a\0\0");
    fs::write(dir.path().join("settings.json"), "{\n  \"a\": 1\n}\n").expect("written");
    let documents = opened(dir.path());
    assert_eq!(
        documents.file_names(),
        ["a.txt"],
        "{}",
        documents.left_out()
    );
}

#[test]
fn byte_order_mark_before_json_lines_is_skipped() {
    let dir = scratch();
    let path = dir.path().join("a.jsonl");
    fs::write(&path, "\u{feff}{\"text\": \"a\"}\r\n{\"text\": \"b\"}\r\n").expect("written");
    assert_eq!(texts(&opened(&path)), ["a", "b"]);
}

#[test]
fn missing_empty_and_vanished_files_are_errors() {
    let dir = scratch();
    let error = fault(&dir.path().join("none")).expect("missing");
    assert!(error.starts_with("cannot read"), "{error}");
    assert!(
        fault(dir.path())
            .expect("empty")
            .starts_with("no documents in")
    );
    let path = dir.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"a\"}\n").expect("written");
    let documents = opened(&path);
    fs::remove_file(&path).expect("removed");
    let mut groups = documents.groups_from(GroupPosition::default());
    assert!(groups.next().expect("an error").is_err());
    assert!(groups.next().is_none());
}

#[test]
fn identity_tells_other_files_and_parts_apart() {
    let dir = scratch();
    let path = dir.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"a\"}\n").expect("written");
    let documents = opened(&path);
    assert_eq!(documents.identity(), opened(&path).identity());
    let Split { train, val } = documents.clone().split().expect("one file");
    assert_ne!(train.identity(), val.identity());
    fs::write(&path, "{\"text\": \"b\"}\n").expect("written");
    assert_ne!(
        documents.identity(),
        opened(&path).identity(),
        "of the same size"
    );
}
