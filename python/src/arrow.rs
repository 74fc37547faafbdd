//! A table as a stream of the Arrow C data interface, in a capsule: pandas, Polars and pyarrow read
//! it without a dependency of this package on any of them.
//!
//! The structures are those of the interface's specification. The receiver releases it: it
//! calls `release`, which frees the private data and marks the structure as released.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
};

use pyo3::{exceptions::PyValueError, prelude::*, types::PyCapsule};

const STREAM_NAME: &CStr = c"arrow_array_stream";
/// The field may contain nulls.
const NULLABLE: i64 = 2;

#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

#[repr(C)]
struct ArrowArrayStream {
    get_schema: unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int,
    get_next: unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int,
    get_last_error: unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

// SAFETY: the private data is a `StreamState`, which can be sent.
unsafe impl Send for ArrowArrayStream {}

/// Releases a stream that nothing has consumed.
impl Drop for ArrowArrayStream {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the stream has not been released.
            unsafe { release(self) };
        }
    }
}

/// The values of a column.
#[derive(FromPyObject)]
pub enum ArrowValues {
    Integers(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
}

/// A column as buffers of Arrow.
struct ArrowColumn {
    name: CString,
    format: &'static CStr,
    length: usize,
    null_count: usize,
    /// The validity bitmap, the offsets of texts, and the values.
    buffers: Vec<Vec<u8>>,
}

impl ArrowColumn {
    fn new(name: &str, values: ArrowValues) -> PyResult<Self> {
        let name = CString::new(name)
            .map_err(|_| PyValueError::new_err("the name of a column contains a null character"))?;
        Ok(match values {
            ArrowValues::Integers(values) => {
                let bytes = values.iter().flat_map(|value| value.unwrap_or(0).to_le_bytes()).collect();
                Self::from_buffers(name, c"l", &values, vec![bytes])
            }
            ArrowValues::Floats(values) => {
                let bytes = values.iter().flat_map(|value| value.unwrap_or(0.0).to_le_bytes()).collect();
                Self::from_buffers(name, c"g", &values, vec![bytes])
            }
            ArrowValues::Texts(values) => {
                let mut text = Vec::new();
                let mut offsets = 0_i64.to_le_bytes().to_vec();
                for value in &values {
                    text.extend(value.as_deref().unwrap_or("").bytes());
                    offsets.extend((text.len() as i64).to_le_bytes());
                }
                Self::from_buffers(name, c"U", &values, vec![offsets, text])
            }
        })
    }

    fn from_buffers<T>(
        name: CString,
        format: &'static CStr,
        values: &[Option<T>],
        data: Vec<Vec<u8>>,
    ) -> Self {
        let mut validity = vec![0_u8; values.len().div_ceil(8)];
        for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
            validity[index / 8] |= 1 << (index % 8);
        }
        let null_count = values.iter().filter(|value| value.is_none()).count();
        let buffers = [vec![validity], data].concat();
        Self { name, format, length: values.len(), null_count, buffers }
    }

    /// The column as an array, which takes its buffers.
    fn take_array(&mut self) -> ArrowArray {
        array(self.length, self.null_count, std::mem::take(&mut self.buffers), Vec::new())
    }
}

/// What a stream owns.
struct StreamState {
    columns: Vec<ArrowColumn>,
    /// Whether the only batch of the stream was taken.
    is_exhausted: bool,
}

/// What a schema owns, at every level.
struct SchemaState {
    /// Keeps the text to which the schema points.
    _name: CString,
    children: Vec<*mut ArrowSchema>,
}

/// What an array owns, at every level.
struct ArrayState {
    /// Keeps the bytes to which the array points.
    _buffers: Vec<Vec<u8>>,
    pointers: Vec<*const c_void>,
    children: Vec<*mut ArrowArray>,
}

fn schema(format: &'static CStr, name: CString, children: Vec<ArrowSchema>) -> ArrowSchema {
    let children: Vec<_> = children.into_iter().map(|child| Box::into_raw(Box::new(child))).collect();
    let name_pointer = name.as_ptr();
    let state = Box::into_raw(Box::new(SchemaState { _name: name, children }));
    // SAFETY: the state was just created, and stays where it is until it is released.
    let children = unsafe { &mut (*state).children };
    ArrowSchema {
        format: format.as_ptr(),
        name: name_pointer,
        metadata: ptr::null(),
        flags: NULLABLE,
        n_children: children.len() as i64,
        children: children.as_mut_ptr(),
        dictionary: ptr::null_mut(),
        release: Some(release_schema),
        private_data: state.cast(),
    }
}

fn array(length: usize, null_count: usize, buffers: Vec<Vec<u8>>, children: Vec<ArrowArray>) -> ArrowArray {
    let children: Vec<_> = children.into_iter().map(|child| Box::into_raw(Box::new(child))).collect();
    let pointers = match buffers.is_empty() {
        // A struct has a validity bitmap alone, which is left out.
        true => vec![ptr::null()],
        false => buffers.iter().map(|buffer| buffer.as_ptr().cast()).collect(),
    };
    let state = Box::into_raw(Box::new(ArrayState { _buffers: buffers, pointers, children }));
    // SAFETY: the state was just created, and stays where it is until it is released.
    let state_ref = unsafe { &mut *state };
    ArrowArray {
        length: length as i64,
        null_count: null_count as i64,
        offset: 0,
        n_buffers: state_ref.pointers.len() as i64,
        n_children: state_ref.children.len() as i64,
        buffers: state_ref.pointers.as_mut_ptr(),
        children: state_ref.children.as_mut_ptr(),
        dictionary: ptr::null_mut(),
        release: Some(release_array),
        private_data: state.cast(),
    }
}

/// # Safety
/// `schema` was made by [`schema`] and is not released.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the caller warrants it; the private data is that which `schema` made.
    let (schema, state) =
        unsafe { (&mut *schema, Box::from_raw((*schema).private_data.cast::<SchemaState>())) };
    for child in state.children {
        // SAFETY: `schema` made the child. A consumer that moved it has marked it as released.
        let mut child = unsafe { Box::from_raw(child) };
        if let Some(release) = child.release {
            // SAFETY: the child is not released.
            unsafe { release(&raw mut *child) };
        }
    }
    schema.release = None;
}

/// # Safety
/// `array` was made by [`array`] and is not released.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: the caller warrants it; the private data is that which `array` made.
    let (array, state) = unsafe { (&mut *array, Box::from_raw((*array).private_data.cast::<ArrayState>())) };
    for child in state.children {
        // SAFETY: `array` made the child. A consumer that moved it has marked it as released.
        let mut child = unsafe { Box::from_raw(child) };
        if let Some(release) = child.release {
            // SAFETY: the child is not released.
            unsafe { release(&raw mut *child) };
        }
    }
    array.release = None;
}

/// # Safety
/// `stream` was made by [`arrow_stream`] and is not released.
unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: the caller warrants it; the private data is that which `arrow_stream` made.
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<StreamState>()));
        (*stream).release = None;
    }
}

/// # Safety
/// `stream` was made by [`arrow_stream`] and is not released; `out` can be written.
unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the caller warrants it.
    let state = unsafe { &*(*stream).private_data.cast::<StreamState>() };
    let fields = state.columns.iter().map(|column| schema(column.format, column.name.clone(), Vec::new()));
    // SAFETY: the caller warrants it.
    unsafe { out.write(schema(c"+s", CString::default(), fields.collect())) };
    0
}

/// # Safety
/// `stream` was made by [`arrow_stream`] and is not released; `out` can be written.
unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: the caller warrants it.
    let state = unsafe { &mut *(*stream).private_data.cast::<StreamState>() };
    // The end of a stream is a released array.
    let mut batch = array(0, 0, Vec::new(), Vec::new());
    // SAFETY: the array was just made.
    unsafe { release_array(&raw mut batch) };
    if !std::mem::replace(&mut state.is_exhausted, true) {
        let rows = state.columns.first().map_or(0, |column| column.length);
        let columns = state.columns.iter_mut().map(ArrowColumn::take_array).collect();
        batch = array(rows, 0, Vec::new(), columns);
    }
    // SAFETY: the caller warrants it.
    unsafe { out.write(batch) };
    0
}

/// No call fails, so there is no error to describe.
unsafe extern "C" fn get_last_error(_: *mut ArrowArrayStream) -> *const c_char {
    ptr::null()
}

/// A capsule `arrow_array_stream` with one batch of these columns, all of one length.
#[pyfunction]
pub fn arrow_stream(py: Python<'_>, columns: Vec<(String, ArrowValues)>) -> PyResult<Bound<'_, PyCapsule>> {
    let columns = columns.into_iter().map(|(name, values)| ArrowColumn::new(&name, values));
    let columns = columns.collect::<PyResult<Vec<_>>>()?;
    if columns.windows(2).any(|pair| pair[0].length != pair[1].length) {
        return Err(PyValueError::new_err("the columns have different lengths"));
    }
    let state = Box::new(StreamState { columns, is_exhausted: false });
    let stream = ArrowArrayStream {
        get_schema,
        get_next,
        get_last_error,
        release: Some(release_stream),
        private_data: Box::into_raw(state).cast(),
    };
    PyCapsule::new_with_value(py, stream, STREAM_NAME)
}
