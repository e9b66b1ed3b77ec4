# cmake -DPAGE_DIR=… -DOUT=… -P embed_page.cmake: one C++ source that holds the web page, its style and scripts put inline and
# allowed by their hashes in the page's Content-Security-Policy. Works on hex digits, since CMake strings are no place for
# semicolons, brackets and backslashes.
cmake_minimum_required(VERSION 3.22)

function(hex_of text out)
  string(HEX "${text}" digits)
  set(${out} "${digits}" PARENT_SCOPE)
endfunction()

function(base64_of_hex hex out)
  set(alphabet ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH "${hex}" length)
  set(encoded "")
  foreach(start RANGE 0 ${length} 6)
    if(start EQUAL length)
      break()
    endif()
    string(SUBSTRING "${hex}000000" ${start} 6 group)
    math(EXPR value "0x${group}")
    foreach(shift 18 12 6 0)
      math(EXPR index "(${value} >> ${shift}) & 63")
      string(SUBSTRING "${alphabet}" ${index} 1 letter)
      string(APPEND encoded "${letter}")
    endforeach()
  endforeach()
  # 32 bytes of a SHA-256 leave one byte of padding.
  string(REGEX REPLACE "A$" "=" encoded "${encoded}")
  set(${out} "${encoded}" PARENT_SCOPE)
endfunction()

file(READ ${PAGE_DIR}/index.html page HEX)

# Puts one file inline in place of the tag that names it.
function(inline_file name reference open close out_hash)
  file(READ ${PAGE_DIR}/${name} content HEX)
  hex_of("${reference}" reference_hex)
  hex_of("${open}" open_hex)
  hex_of("${close}" close_hex)
  string(FIND "${page}" "${reference_hex}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "${PAGE_DIR}/index.html does not contain ${reference}")
  endif()
  string(REPLACE "${reference_hex}" "${open_hex}${content}${close_hex}" page "${page}")
  set(page "${page}" PARENT_SCOPE)
  file(SHA256 ${PAGE_DIR}/${name} digest)
  base64_of_hex(${digest} encoded)
  set(${out_hash} "'sha256-${encoded}'" PARENT_SCOPE)
endfunction()

inline_file(style.css "<link rel=\"stylesheet\" href=\"style.css\">" "<style>" "</style>" style_hash)
inline_file(markdown.js "<script src=\"markdown.js\"></script>" "<script>" "</script>" markdown_hash)
inline_file(chat.js "<script src=\"chat.js\"></script>" "<script>" "</script>" chat_hash)
foreach(pair "style-src 'self'|style-src ${style_hash}" "script-src 'self'|script-src ${markdown_hash} ${chat_hash}")
  string(REPLACE "|" ";" pair "${pair}")
  list(GET pair 0 from)
  list(GET pair 1 to)
  hex_of("${from}" from_hex)
  hex_of("${to}" to_hex)
  string(REPLACE "${from_hex}" "${to_hex}" page "${page}")
endforeach()

string(REGEX REPLACE "(..)" "0x\\1," bytes "${page}")
string(REPEAT "0x..," 16 line)
string(REGEX REPLACE "(${line})" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "// Written by cmake/embed_page.cmake from weir/server/page/; change those files.
#include \"weir/server/web_page.h\"

namespace weir {
namespace {
constexpr unsigned char kPage[] = {
${bytes}};
}  // namespace

std::string_view web_page() { return {reinterpret_cast<const char*>(kPage), sizeof(kPage)}; }

}  // namespace weir
")
