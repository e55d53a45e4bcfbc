<?php
// The source of admin/index.php.
require __DIR__ . '/../../told.php';
echo 'admin', told();
