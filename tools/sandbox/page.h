/* page - the page for people at /: what came in, what shall go wrong. It reads the control API. */
#ifndef STET_SANDBOX_PAGE_H
#define STET_SANDBOX_PAGE_H

#include "proto/base/base.h"

stet_str sandbox_page(void);

#endif
