#!/bin/sh
# Says nothing about its license.
