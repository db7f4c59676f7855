# Compiler and linker flags of everything that is built here, in one place.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Assertions are SHO_ASSERT under SHOBJ_DEBUG, never <assert.h> under NDEBUG.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter)

# With an empty value, so that a file which says "#define _GNU_SOURCE" itself does not define it anew.
add_compile_definitions(_GNU_SOURCE=)

if(SHOBJ_FAULTS)
  add_compile_definitions(SHOBJ_FAULTS)
endif()
if(SHOBJ_DEBUG)
  add_compile_definitions(SHOBJ_DEBUG)
endif()

if(SHOBJ_SANITIZE)
  string(REPLACE "," ";" sanitizers "${SHOBJ_SANITIZE}")
  foreach(sanitizer IN LISTS sanitizers)
    if(NOT sanitizer MATCHES "^(address|undefined|thread)$")
      message(FATAL_ERROR "SHOBJ_SANITIZE: '${sanitizer}' is none of address, undefined, thread")
    endif()
  endforeach()
  add_compile_options(-fsanitize=${SHOBJ_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SHOBJ_SANITIZE})
  if("undefined" IN_LIST sanitizers)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
else()
  # A sanitizer's runtime comes with the program, so that a library may leave its symbols open.
  set(CMAKE_SHARED_LINKER_FLAGS "${CMAKE_SHARED_LINKER_FLAGS} -Wl,--no-undefined")
endif()

# libFuzzer's counters in everything; its main() comes with the targets (tests/fuzz).
if(SHOBJ_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

if(SHOBJ_LTO AND NOT SHOBJ_SANITIZE AND CMAKE_BUILD_TYPE MATCHES "^(Release|RelWithDebInfo|MinSizeRel)$")
  include(CheckIPOSupported)
  check_ipo_supported(RESULT CMAKE_INTERPROCEDURAL_OPTIMIZATION LANGUAGES C OUTPUT ipo_output)
  # Machine code beside the intermediate one: libshobj.a links with any compiler.
  if(CMAKE_INTERPROCEDURAL_OPTIMIZATION AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    set(CMAKE_C_COMPILE_OPTIONS_IPO -flto=auto -ffat-lto-objects)
  endif()
endif()
